package store

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Memory is a Store that lives as long as the process.
type Memory struct {
	mu        sync.Mutex
	documents map[string][]byte
	modified  map[string]time.Time
}

// NewMemory is an empty store.
func NewMemory() *Memory {
	return &Memory{documents: map[string][]byte{}, modified: map[string]time.Time{}}
}

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
	return Document{name, bytes.Clone(text), VersionOf(text)}, nil
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
	return nil
}
