package detect

import (
	"context"
	"io/fs"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strings"
	"sync"
)

// recorder notes what probes see; nil notes nothing. Probes run side by side.
type recorder struct {
	mu    sync.Mutex
	rec   Recording
	names map[string]bool
	pci   map[string]map[string]bool // lines, and those below them
}

func newRecorder(comment string) *recorder {
	return &recorder{names: map[string]bool{}, pci: map[string]map[string]bool{}, rec: Recording{Comment: comment,
		Files: map[string]string{}, Binary: map[string][]byte{}, Links: map[string]string{}, Programs: map[string]Program{},
		Addresses: map[string][]netip.Prefix{}, Ethtool: map[string]Ethtool{}, NVMe: map[string]NVMe{}, LLDP: map[string]string{}}}
}

// file notes what was read; a file that cannot be read is one that is not there.
func (n *recorder) file(fsys fs.FS, name string, data []byte, err error) {
	if n == nil || err != nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if place, ok := n.rec.note(fsys, name); ok {
		n.rec.content(place, data)
	}
}

// path notes that there is something of that name.
func (n *recorder) path(fsys fs.FS, name string) {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if place, ok := n.rec.note(fsys, name); ok {
		n.names[place] = true
	}
}

// pciName notes a line of pci.ids and one below it: the full list is not this
// machine's.
func (n *recorder) pciName(id, name, subID, subName string) {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	line := "\n" + id + "  " + name
	if n.pci[line] == nil {
		n.pci[line] = map[string]bool{}
	}
	if subName != "" {
		n.pci[line]["\n\t"+subID+"  "+subName] = true
	}
}

// pciList is the part of pci.ids that was noted.
func (n *recorder) pciList() string {
	var list strings.Builder
	for _, line := range slices.Sorted(maps.Keys(n.pci)) {
		list.WriteString(line)
		for _, below := range slices.Sorted(maps.Keys(n.pci[line])) {
			list.WriteString(below)
		}
	}
	if list.Len() > 0 {
		list.WriteString("\n")
	}
	return list.String()
}

func (n *recorder) program(argv []string, out Output, err error) {
	if n == nil {
		return
	}
	p := Program{Output: out}
	if err != nil {
		p.Error = err.Error()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rec.Programs[strings.Join(argv, " ")] = p
}

// questions are those of a source, and their answers are noted.
func (n *recorder) questions(s Source) Source {
	asked := s
	asked.Addresses = func(device string) []netip.Prefix {
		return noted(n, n.rec.Addresses, device, s.Addresses)
	}
	asked.Ethtool = func(device string) Ethtool {
		return noted(n, n.rec.Ethtool, device, s.Ethtool)
	}
	asked.NVMe = func(disk string) (NVMe, error) {
		answers, err := s.NVMe(disk)
		if err == nil {
			noted(n, n.rec.NVMe, disk, func(string) NVMe { return answers })
		}
		return answers, err
	}
	asked.LLDP = func(ctx context.Context) (map[string]string, error) {
		said, err := s.LLDP(ctx)
		for device, text := range said {
			noted(n, n.rec.LLDP, device, func(string) string { return text })
		}
		return said, err
	}
	return asked
}

func noted[T any](n *recorder, notes map[string]T, about string, ask func(string) T) T {
	answer := ask(about)
	n.mu.Lock()
	defer n.mu.Unlock()
	notes[about] = answer
	return answer
}

// end is the recording so far: a probe that hangs adds nothing any more.
func (n *recorder) end() Recording {
	n.mu.Lock()
	defer n.mu.Unlock()
	rec := n.rec.clone()
	if list := n.pciList(); list != "" {
		rec.Files[pciIDs] = list
	}
	known := map[string]bool{}
	for name := range rec.tree() {
		for ; name != "."; name = path.Dir(name) {
			known[name] = true
		}
	}
	for name := range n.names {
		if !known[name] {
			rec.Names = append(rec.Names, name)
		}
	}
	slices.Sort(rec.Names)
	return rec
}
