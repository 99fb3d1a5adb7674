package drive

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Named are the disks that a text names: scripts, commands, variables. A name is
//
//   - the kernel's, of the disk, of one of its partitions, of the controller of an NVMe disk;
//   - one in /dev/disk/by-id or by-path, also of a partition;
//   - the UUID of a file system or partition that is on the disk, or its label behind LABEL=, -L, by-label/ ...;
//   - that of a volume group that the disk belongs to;
//   - an array or volume that the kernel has made of the disk;
//   - a pattern of the shell below /dev, such as /dev/sd*;
//   - for mdadm --assemble, which finds its members itself, that of any array.
//
// It is an error when one name in by-id belongs to two disks.
func (m *Machine) Named(drives []Drive, text string) ([]Drive, error) {
	stacked := m.stacked(text)
	assembles := assemble.MatchString(text)
	var found []Drive
	for _, d := range drives {
		if id := sharedID(drives, d, text); id != "" {
			return nil, fmt.Errorf("two disks have the name /dev/disk/by-id/%s: %s", id,
				list(slices.DeleteFunc(slices.Clone(drives), func(o Drive) bool { return !slices.Contains(o.IDs, id) })))
		}
		if stacked[d.Name] || d.named(text) || assembles && d.member() {
			found = append(found, d)
		}
	}
	return found, nil
}

var (
	// assemble is mdadm looking for arrays by itself.
	assemble = regexp.MustCompile(`\bmdadm\b[^;|&\n]*\s(--assemble|--incremental|-A\w*|-I\w*)\b`)
	// mapped are arrays and volumes.
	mapped = regexp.MustCompile(`\b(md[0-9]+(_d[0-9]+)?|dm-[0-9]+)|/dev/(md/[\w.:-]+|mapper/[\w.+-]+)`)
	// patterns are what the shell makes names of.
	patterns = regexp.MustCompile(`/dev/[^\s'"` + "`" + `();|&<>=$]*[*?\[{][^\s'"` + "`" + `();|&<>=$]*`)
	braces   = regexp.MustCompile(`\{[^}]*\}?`)
)

func (d Drive) member() bool {
	return slices.ContainsFunc(d.Contents, func(c Content) bool { return strings.HasSuffix(c.Type, "_raid_member") })
}

// sharedID is a name of this disk in the text that another disk has, too.
func sharedID(drives []Drive, d Drive, text string) string {
	for _, id := range d.IDs {
		twin := func(o Drive) bool { return o.Name != d.Name && slices.Contains(o.IDs, id) }
		if strings.Contains(text, id) && hasWord(text, id, `(-part[0-9]+)?`) && slices.ContainsFunc(drives, twin) {
			return id
		}
	}
	return ""
}

func (d Drive) named(text string) bool {
	for _, name := range d.names() {
		if strings.Contains(text, name.text) && hasWord(text, name.text, name.after) {
			return true
		}
	}
	for _, pattern := range patterns.FindAllString(text, -1) {
		if d.matches(pattern) {
			return true
		}
	}
	return slices.ContainsFunc(d.Contents, func(c Content) bool { return labelled(text, c.Label) || labelled(text, c.PartLabel) })
}

// name is a text that stands for a disk.
type name struct {
	text  string
	after string // a regular expression: what may follow, such as a partition's number
}

func (d Drive) names() []name {
	names := []name{{text: d.Name, after: `(p?[0-9]+)?`}}
	if controller, _, ok := strings.Cut(strings.TrimPrefix(d.Name, "nvme"), "n"); ok && strings.HasPrefix(d.Name, "nvme") {
		names = append(names, name{text: "nvme" + controller})
	}
	for _, id := range d.IDs {
		names = append(names, name{text: id, after: `(-part[0-9]+)?`})
	}
	if d.Place != "" {
		names = append(names, name{text: d.Place, after: `(-part[0-9]+)?`})
	}
	for _, c := range d.Contents {
		for _, word := range []string{c.UUID, c.PartUUID, c.Group} {
			if word != "" {
				names = append(names, name{text: word})
			}
		}
	}
	return names
}

// hasWord finds a name that is not a part of another one.
func hasWord(text, word, after string) bool {
	// "-" ends a volume group's name, and a name in by-id: what is in doubt is named.
	r, err := regexp.Compile(`(^|[^\w])` + regexp.QuoteMeta(word) + after + `($|[^\w])`)
	return err == nil && r.MatchString(text)
}

// labelled finds a label as mount(8), findfs(8) and scripts write it. A label
// alone may be any word.
func labelled(text, label string) bool {
	if label == "" || !strings.Contains(text, label) {
		return false
	}
	r, err := regexp.Compile(`(LABEL=|by-label/|by-partlabel/|-L ?)["']?` + regexp.QuoteMeta(label) + `($|[^\w])`)
	return err == nil && r.MatchString(text)
}

// matches says whether the shell would make the pattern a name of the disk or of
// one of its partitions.
func (d Drive) matches(pattern string) bool {
	pattern = strings.ReplaceAll(braces.ReplaceAllString(pattern, "*"), "[!", "[^")
	names := []string{d.Device(), "/dev/disk/by-path/" + d.Place}
	for _, id := range d.IDs {
		names = append(names, "/dev/disk/by-id/"+id)
	}
	for _, c := range d.Contents {
		names = append(names, "/dev/"+c.Name, "/dev/disk/by-uuid/"+c.UUID, "/dev/disk/by-label/"+c.Label,
			"/dev/disk/by-partuuid/"+c.PartUUID, "/dev/disk/by-partlabel/"+c.PartLabel)
	}
	for _, suffix := range []string{"1", "p1"} { // made meanwhile
		names = append(names, d.Device()+suffix)
	}
	return slices.ContainsFunc(names, func(name string) bool {
		ok, err := path.Match(pattern, name)
		return ok || err != nil // what is in doubt is named
	})
}

// stacked are the disks below arrays and volumes that the text names.
func (m *Machine) stacked(text string) map[string]bool {
	below := map[string]bool{}
	for _, match := range mapped.FindAllStringSubmatch(text, -1) {
		name := match[1]
		if name == "" {
			name = m.mapping(match[3])
		}
		if name != "" {
			m.slaves(name, below, 0)
		}
	}
	return below
}

// mapping is the kernel's name of md/NAME or mapper/NAME.
func (m *Machine) mapping(name string) string {
	dir, base := path.Split(name)
	if dir == "md/" {
		// mdadm's names are links to the kernel's; any array may be meant.
		if arrays, _ := fs.Glob(m.Sys, "block/md*"); len(arrays) == 1 {
			return path.Base(arrays[0])
		}
		return ""
	}
	names, _ := fs.Glob(m.Sys, "block/dm-*")
	for _, device := range names {
		if m.text(device, "dm/name") == base {
			return path.Base(device)
		}
	}
	return ""
}

// slaves notes the disks below a device; stacks are not deep.
func (m *Machine) slaves(name string, below map[string]bool, depth int) {
	found, _ := fs.Glob(m.Sys, "block/"+name+"/slaves/*")
	for _, slave := range found {
		base := path.Base(slave)
		if strings.HasPrefix(base, "md") || strings.HasPrefix(base, "dm-") {
			if depth < 8 {
				m.slaves(base, below, depth+1)
			}
			continue
		}
		below[m.disk(base)] = true
	}
}

// disk is the disk of a partition, or the disk itself.
func (m *Machine) disk(name string) string {
	if at := m.location("class/block/" + name); len(at) > 1 && whole.MatchString(at[len(at)-2]) {
		return at[len(at)-2]
	}
	return name
}

var (
	// lists are programs and files that say which disks there are.
	lists = regexp.MustCompile(`/sys/(class/)?block(/?["'\s);|&]|/?$|/[^\s/'"]*[*?\[])|/proc/(partitions|diskstats|scsi)|/hw\.json` +
		`|/dev/disk/by-[a-z]+(/?["'\s);|&]|/?$)|["']/dev/?["']|ls( -\w+)* /dev\b` +
		`|\b(lsscsi|lshw|hwinfo|hpacucli|hpssacli|ssacli|megacli|MegaCli\w*|storcli\w*|perccli\w*|multipath|list-devices)\b` +
		`|\b(fdisk|sfdisk|parted)( -\w+)* -l\b|\bnvme list\b|\bsmartctl --scan|\bmdadm\b[^;|&\n]*--scan`)
	// asks are programs that list disks unless they are asked about one of them:
	// by its name, or by what a shell or Python puts there.
	asks  = regexp.MustCompile(`\b(lsblk|blkid|pvs|vgs|lvs)\b[^;|&)` + "`" + `\n]*`)
	about = regexp.MustCompile(`/dev/\w|[%$]`)
	// substitutes is how a shell makes one command's output another one's words.
	substitutes = regexp.MustCompile("[$`]|\\bxargs\\b|\\bread\\b|-exec\\b")
)

// Computes says whether a command may write to disks whose names it finds out
// itself: it lists disks, and uses the output of commands.
func Computes(command string) bool {
	return ListsDisks(command) && substitutes.MatchString(command)
}

// ListsDisks says whether a text asks which disks there are.
func ListsDisks(text string) bool {
	return lists.MatchString(text) || slices.ContainsFunc(asks.FindAllString(text, -1), func(call string) bool { return !about.MatchString(call) })
}
