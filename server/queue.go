package server

import (
	"slices"
	"sync"
)

// maxGroup bounds the errands that are done at once.
const maxGroup = 256

// queue is the errands that wait.
type queue struct {
	mu      sync.Mutex
	waiting []*errand
}

func (q *queue) add(e *errand) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, e)
}

// remove takes an errand out; false: it is being done, or is done.
func (q *queue) remove(e *errand) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.waiting, e)
	if i < 0 {
		return false
	}
	q.waiting = slices.Delete(q.waiting, i, i+1)
	return true
}

// next takes out what is done next: the errand that has waited longest, with
// all that can go with it, because they need the same lock files. None overtakes
// one that goes alone.
func (q *queue) next() []*errand {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		return nil
	}
	first := q.waiting[0]
	if first.alone {
		q.waiting = slices.Delete(q.waiting, 0, 1)
		return []*errand{first}
	}
	var group, rest []*errand
	for i, e := range q.waiting {
		if e.alone || len(group) == maxGroup {
			rest = append(rest, q.waiting[i:]...)
			break
		}
		if slices.Equal(e.sections, first.sections) {
			group = append(group, e)
		} else {
			rest = append(rest, e)
		}
	}
	q.waiting = rest
	return group
}
