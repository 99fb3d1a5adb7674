package transaction

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"edeploy/images/manifest"

	"github.com/moby/sys/mountinfo"
)

type mount struct {
	path   string // below the root, "." is the root itself
	fsType string
	source string
}

// pseudo are kernel interfaces and file systems in memory: what lies there is
// no part of an installed tree and gone after a reboot.
var pseudo = map[string]bool{"proc": true, "sysfs": true, "devpts": true, "cgroup": true, "cgroup2": true, "securityfs": true,
	"debugfs": true, "tracefs": true, "bpf": true, "pstore": true, "efivarfs": true, "hugetlbfs": true, "autofs": true,
	"binfmt_misc": true, "selinuxfs": true, "configfs": true, "fusectl": true, "mqueue": true, "nsfs": true, "rpc_pipefs": true,
	"devtmpfs": true, "tmpfs": true, "ramfs": true}

// table are the mounts, the root first.
type table []mount

func (d *disk) mounts() (table, error) {
	all, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, err
	}
	root, err := filepath.EvalSymlinks(d.root)
	if err == nil {
		root, err = filepath.Abs(root)
	}
	if err != nil {
		return nil, err
	}
	return newTable(all, root), nil
}

// newTable answers the mounts at and below root. Of several on one path the
// last counts. The root needs not be a mount point.
func newTable(all []*mountinfo.Info, root string) table {
	found := map[string]mount{}
	around := mount{path: "."}
	best := -1
	for _, m := range all {
		if rel, ok := below(root, m.Mountpoint); ok && rel != "." {
			found[rel] = mount{rel, m.FSType, m.Source}
		} else if _, ok := below(m.Mountpoint, root); ok && len(m.Mountpoint) >= best {
			best = len(m.Mountpoint)
			around.fsType, around.source = m.FSType, m.Source
		}
	}
	t := slices.SortedFunc(maps.Values(found), func(a, b mount) int { return cmp.Compare(a.path, b.path) })
	return append(table{around}, t...)
}

// below tells whether path is dir or lies in it, and where.
func below(dir, path string) (rel string, ok bool) {
	dir = strings.TrimSuffix(dir, "/")
	rest, ok := strings.CutPrefix(path, dir)
	switch {
	case !ok || rest != "" && rest[0] != '/':
		return "", false
	case rest == "" || rest == "/":
		return ".", true
	}
	return rest[1:], true
}

// of is the index of the mount that a path lies on; a mount point lies on what
// is mounted there.
func (t table) of(path string) int {
	best := 0
	for i := 1; i < len(t); i++ {
		m := t[i].path
		inside := path == m || strings.HasPrefix(path, m+"/")
		if inside && (best == 0 || len(m) > len(t[best].path)) {
			best = i
		}
	}
	return best
}

// pseudo tells whether a path belongs to a kernel interface or to memory.
func (t table) pseudo(path string) bool {
	i := t.of(path)
	return i > 0 && pseudo[t[i].fsType]
}

// reserved tells whether a path is Dir at the top of a file system, or in it.
func (t table) reserved(p string) bool {
	rel := p
	if i := t.of(p); i > 0 && p != t[i].path {
		rel = p[len(t[i].path)+1:]
	}
	return rel == Dir || strings.HasPrefix(rel, Dir+"/")
}

// mountBelow is a mount point at or below a path.
func (t table) mountBelow(path string) (string, bool) {
	for _, m := range t[1:] {
		if m.path == path || strings.HasPrefix(m.path, path+"/") {
			return m.path, true
		}
	}
	return "", false
}

// describe names a file system so that it can be found after a reboot.
func (d *disk) describe(m mount) fileSystem {
	fs := fileSystem{FileSystem: FileSystem{Path: manifest.Escape(m.path), Source: m.source, Type: m.fsType}, Mount: name(m.path)}
	fstab, _ := d.readFile("etc/fstab", 1<<20)
	if named, ok := InFstab(string(fstab), m.path); ok {
		fs.Source = named.Source
	} else if uuid, ok := uuidOf(m.source); ok {
		fs.Source = "UUID=" + uuid
	}
	return fs
}

// InFstab is what the text of an fstab says is mounted at a path below the root.
func InFstab(text, path string) (f FileSystem, ok bool) {
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 3 || words[0][0] == '#' {
			continue
		}
		point, err := manifest.Unescape(words[1])
		if rel, below := below("/", filepath.Clean(point)); err == nil && below && rel == path {
			return FileSystem{path, words[0], words[2]}, true
		}
	}
	return f, false
}

func uuidOf(device string) (string, bool) {
	const dir = "/dev/disk/by-uuid"
	links, _ := os.ReadDir(dir)
	for _, l := range links {
		if target, err := filepath.EvalSymlinks(filepath.Join(dir, l.Name())); err == nil && target == device {
			return l.Name(), true
		}
	}
	return "", false
}

// mounted tells that a journal's file systems are there.
func (d *disk) mounted(j *journal) error {
	for _, fs := range j.FileSystems {
		st, err := d.lookup(slots(string(fs.Mount), j.Number))
		if err != nil {
			return err
		}
		if st == nil {
			return fmt.Errorf("%s: the upgrade's directory is not there: is %s mounted?", d.name(slots(string(fs.Mount), j.Number)), fs.Source)
		}
	}
	return nil
}
