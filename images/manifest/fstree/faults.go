package fstree

import (
	"errors"
	"fmt"
	"sync"
)

// faults collects errors of many entries; it keeps the first ten.
type faults struct {
	mu   sync.Mutex
	kept []error
	more int
}

const keptFaults = 10

func (f *faults) add(err error) {
	if err == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.kept) < keptFaults {
		f.kept = append(f.kept, err)
	} else {
		f.more++
	}
}

func (f *faults) err() error {
	if f.more > 0 {
		return errors.Join(append(f.kept, fmt.Errorf("and %d more", f.more))...)
	}
	return errors.Join(f.kept...)
}
