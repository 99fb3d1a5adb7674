package manifest

import (
	"fmt"
	"unsafe"
)

// Size is how much entries take, as values and as text. It is added up while
// they are read, so that what is too large is refused before it is there.
type Size struct {
	most         limits // zero: standard
	entries      int
	memory, text int64
	line         []byte
}

// limits are the most that entries may take.
type limits struct {
	entries      int
	memory, text int64
}

var standard = limits{MaxEntries, maxMemory, MaxTextBytes}

// Add counts one more entry. An error tells which limit is passed.
func (s *Size) Add(e *Entry) error {
	if s.most == (limits{}) {
		s.most = standard
	}
	s.line = e.appendLine(s.line[:0], MaxEntries) // the longest number of names
	s.entries++
	s.memory += e.weight()
	s.text += int64(len(s.line))
	switch {
	case s.entries > s.most.entries:
		return fmt.Errorf("more than %d entries", s.most.entries)
	case s.memory > s.most.memory:
		return fmt.Errorf("more than %d bytes of paths and attributes", s.most.memory)
	case s.text > s.most.text-textHead:
		return fmt.Errorf("more than %d bytes of text", s.most.text)
	case len(s.line) > MaxLineBytes:
		return fmt.Errorf("its line has more than %d bytes", MaxLineBytes)
	}
	return nil
}

// textHead is room for the line that WriteTo begins with.
const textHead = 64

// weight is about how many bytes of memory an entry takes.
func (e *Entry) weight() int64 {
	n := int(unsafe.Sizeof(*e)) + len(e.Path) + len(e.Link)
	for name, value := range e.Xattrs {
		n += mapBytes + len(name) + len(value)
	}
	return int64(n)
}

// mapBytes is about what a map takes for an element beside its strings.
const mapBytes = 64
