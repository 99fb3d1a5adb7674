// Package flock holds a file locked against other processes. The lock is
// flock(2)'s: it dies with the process, so a file that is left over locks
// nobody out, unlike the create-exclusive lock file of the original (reference
// section 6.4).
package flock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// ErrHeld: another process holds the lock.
var ErrHeld = errors.New("another process holds the lock")

// retry is how often a lock that is held is asked for again. Waiting inside
// flock(2) could not be ended by a context.
const retry = 20 * time.Millisecond

// Lock is a lock that is held.
type Lock struct{ file *os.File }

// Take waits for the lock on the file at path, which is made when it does not
// exist, until ctx ends; then the error is ErrHeld.
func Take(ctx context.Context, path string) (*Lock, error) {
	for {
		l, err := Try(path)
		if !errors.Is(err, ErrHeld) {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(retry):
		}
	}
}

// Try takes the lock or answers ErrHeld at once.
func Try(path string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NONBLOCK, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return &Lock{f}, nil
	}
	f.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("lock %s: %w", path, ErrHeld)
	}
	return nil, fmt.Errorf("lock %s: %w", path, err)
}

// Release gives the lock back.
func (l *Lock) Release() error { return l.file.Close() }
