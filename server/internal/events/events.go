// Package events is a stream of what happens, for any number of readers.
package events

import (
	"context"
	"iter"
	"slices"
	"sync"
)

// Stream numbers events from 1 and keeps the last ones. Whoever appends never
// waits for a reader.
type Stream[E any] struct {
	most  int
	mu    sync.Mutex
	kept  []E
	last  uint64        // number of the newest
	grown chan struct{} // closed when there is a newer one
}

// New is a stream that keeps so many events.
func New[E any](most int) *Stream[E] {
	return &Stream[E]{most: most, grown: make(chan struct{})}
}

// Append adds the newest events, in their order, and answers the number of the last.
func (s *Stream[E]) Append(all ...E) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(all) == 0 {
		return s.last
	}
	if s.kept = append(s.kept, all...); len(s.kept) > 2*s.most {
		s.kept = slices.Clone(s.kept[len(s.kept)-s.most:])
	}
	s.last += uint64(len(all))
	close(s.grown)
	s.grown = make(chan struct{})
	return s.last
}

// Last is the number of the newest event; 0: there was none yet.
func (s *Stream[E]) Last() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// Next are the events after the one with this number, and the number of the
// first of them. It waits for one until ctx ends; then there are none. When the
// first one does not come next after number, those between are not kept any more.
func (s *Stream[E]) Next(ctx context.Context, number uint64) (newer []E, first uint64) {
	for {
		newer, first, grown := s.since(number)
		if len(newer) > 0 {
			return newer, first
		}
		select {
		case <-ctx.Done():
			return nil, first
		case <-grown:
		}
	}
}

// After are the events after the one with this number, each with its own; 0:
// from the first one. It waits for more until ctx ends. A reader that is too
// slow misses the oldest, as their numbers show.
func (s *Stream[E]) After(ctx context.Context, number uint64) iter.Seq2[uint64, E] {
	return func(yield func(uint64, E) bool) {
		for {
			newer, first := s.Next(ctx, number)
			for i, e := range newer {
				number = first + uint64(i)
				if !yield(number, e) {
					return
				}
			}
			if len(newer) == 0 {
				return
			}
		}
	}
}

// since are the events after the one with this number that are kept, the number
// of the first, and what is closed when there are more.
func (s *Stream[E]) since(number uint64) (newer []E, first uint64, grown <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	oldest := s.last + 1 - uint64(min(len(s.kept), s.most))
	first = max(oldest, min(number, s.last)+1)
	return slices.Clone(s.kept[len(s.kept)-int(s.last+1-first):]), first, s.grown
}
