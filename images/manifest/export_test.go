package manifest

import "io"

// ReadWithin is Read with other limits.
func ReadWithin(r io.Reader, entries int, memory, text int64) (*Manifest, error) {
	return readWithin(r, limits{entries, memory, text})
}

// TextBytes is how long the text is thought to be at most.
func (m *Manifest) TextBytes() int64 {
	all := Size{}
	for i := range m.Entries {
		if err := all.Add(&m.Entries[i]); err != nil {
			panic(err)
		}
	}
	return all.text + textHead
}
