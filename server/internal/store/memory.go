package store

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Memory is a Store that lives as long as the process.
type Memory struct {
	limits    Limits
	mu        sync.Mutex
	documents map[string][]byte
	modified  map[string]time.Time
	changes
}

// Limits bound one commit; 0: there is no bound.
type Limits struct {
	Changes int // documents
	Bytes   int // of their names and texts
}

// Etcd are the limits of an etcd server that is set up as it comes.
var Etcd = Limits{Changes: 128, Bytes: 3 << 19}

// NewMemory is an empty store.
func NewMemory(limits Limits) *Memory {
	return &Memory{limits: limits, documents: map[string][]byte{}, modified: map[string]time.Time{}, changes: newChanges()}
}

// Close does nothing: the documents stay.
func (m *Memory) Close() error { return nil }

// Get reads a document.
func (m *Memory) Get(name string) (Document, error) {
	if _, _, err := splitName(name); err != nil {
		return Document{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	text, ok := m.documents[name]
	if !ok {
		return Document{}, fmt.Errorf("%s: %w", name, ErrNotExist)
	}
	return Document{name, bytes.Clone(text), VersionOf(text), m.modified[name]}, nil
}

// Version is the present version of a document.
func (m *Memory) Version(name string) (Version, error) {
	doc, err := m.Get(name)
	if errors.Is(err, ErrNotExist) {
		return Absent, nil
	}
	return doc.Version, err
}

// List names the documents of one collection.
func (m *Memory) List(collection string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for name := range m.documents {
		if strings.HasPrefix(name, collection+"/") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Infos describes the documents of one collection.
func (m *Memory) Infos(collection string) ([]Info, error) {
	names, err := m.List(collection)
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []Info
	for _, name := range names {
		if text, ok := m.documents[name]; ok {
			all = append(all, Info{name, int64(len(text)), m.modified[name]})
		}
	}
	return all, err
}

// Commit makes all changes or none.
func (m *Memory) Commit(changes ...Change) error {
	if err := checkChanges(changes); err != nil {
		return err
	}
	if err := m.limits.check(changes); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range changes {
		is := Absent
		if text, ok := m.documents[c.Name]; ok {
			is = VersionOf(text)
		}
		if is != c.Was {
			return fmt.Errorf("%s: %w", c.Name, ErrConflict)
		}
	}
	for _, c := range changes {
		if c.Delete {
			delete(m.documents, c.Name)
		} else {
			m.documents[c.Name], m.modified[c.Name] = bytes.Clone(c.Text), time.Now()
		}
	}
	m.made(changes)
	return nil
}

func (l Limits) check(changes []Change) error {
	bytes := 0
	for _, c := range changes {
		bytes += len(c.Name) + len(c.Text)
	}
	if l.Changes > 0 && len(changes) > l.Changes || l.Bytes > 0 && bytes > l.Bytes {
		return fmt.Errorf("change of %d documents with %d bytes, at once %d with %d bytes are possible: %w", len(changes), bytes, l.Changes, l.Bytes, ErrTooLarge)
	}
	return nil
}
