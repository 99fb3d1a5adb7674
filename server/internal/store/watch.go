package store

import (
	"context"

	"edeploy/server/internal/events"
)

// Revision numbers the changes of a store, from 1.
type Revision uint64

// Changed is a document that was changed.
type Changed struct {
	Name    string
	Version Version // Absent: it was removed
}

// maxChanged bounds the changes that are kept for watchers.
const maxChanged = 2048

// changes are the last ones of a store, for its watchers.
type changes struct{ stream *events.Stream[Changed] }

func newChanges() changes { return changes{events.New[Changed](maxChanged)} }

// made tells the watchers of a commit.
func (c changes) made(all []Change) {
	changed := make([]Changed, len(all))
	for i, is := range all {
		changed[i] = Changed{is.Name, is.becomes()}
	}
	c.stream.Append(changed...)
}

// Revision is that of the newest change.
func (c changes) Revision() Revision { return Revision(c.stream.Last()) }

// Watch is Store.Watch.
func (c changes) Watch(ctx context.Context, after Revision) ([]Changed, Revision, error) {
	if after > c.Revision() {
		return nil, after, ErrCompacted
	}
	newer, first := c.stream.Next(ctx, uint64(after))
	if first != uint64(after)+1 {
		return nil, after, ErrCompacted
	}
	return newer, after + Revision(len(newer)), nil
}
