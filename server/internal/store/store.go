// Package store keeps named documents and changes several of them together or
// not at all. A document is one small text file that an operator can read and
// edit: the state of a deployment, a CMDB, the record of a machine.
//
// Whoever changes a document says which version it has read; when somebody
// else (an operator with an editor) was faster, the change is refused and
// nothing is written. Dir keeps documents in directories; Memory keeps them
// nowhere. Both pass the same suite (storetest).
package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
)

// MaxDocumentBytes bounds one document.
const MaxDocumentBytes = 32 << 20

// Errors that callers branch on.
var (
	// ErrNotExist: there is no document of that name.
	ErrNotExist = errors.New("no such document")
	// ErrConflict: a document is not the version that the change was made
	// from. Nothing was changed: read again, decide again.
	ErrConflict = errors.New("the document was changed meanwhile")
	// ErrTooLarge: a commit is larger than the store takes at once. Nothing was
	// changed: make it in parts.
	ErrTooLarge = errors.New("too large for the store")
	// ErrCompacted: changes after the revision are not kept any more, or it is
	// none of this store. Start again: note Revision, read the documents, watch.
	ErrCompacted = errors.New("the changes after this revision are gone")
)

// Version names one content of a document. Two documents with the same text
// have the same version.
type Version string

// Absent is the version of a document that does not exist.
const Absent Version = ""

// VersionOf is the version of a document with this text.
func VersionOf(text []byte) Version {
	sum := sha256.Sum256(text)
	return Version(hex.EncodeToString(sum[:]))
}

// Document is one document as it was read.
type Document struct {
	Name     string
	Text     []byte
	Version  Version
	Modified time.Time
}

// Info is what is known about a document without reading it.
type Info struct {
	Name     string // with its collection
	Bytes    int64
	Modified time.Time
}

// Change replaces, makes (Was is Absent) or removes (Delete) one document.
type Change struct {
	Name   string
	Was    Version // the version that the change was made from
	Text   []byte
	Delete bool
}

// becomes is the document's version after the change.
func (c Change) becomes() Version {
	if c.Delete {
		return Absent
	}
	return VersionOf(c.Text)
}

// Reader reads documents.
type Reader interface {
	// Get reads a document; ErrNotExist when there is none.
	Get(name string) (Document, error)
	// Version is the present version of a document, Absent when there is none.
	// It costs less than Get.
	Version(name string) (Version, error)
}

// Store is a set of named documents. A name is a collection and the rest,
// joined by a slash: "machines/52-54-00-00-00-01.json".
type Store interface {
	Reader
	// List names the documents of one collection, sorted.
	List(collection string) ([]string, error)
	// Infos describes the documents of one collection, sorted by name.
	Infos(collection string) ([]Info, error)
	// Commit makes all changes or none. ErrConflict: none was made because a
	// document had another version. After any other error they may still be
	// made: read the documents again.
	Commit(changes ...Change) error
	// Revision is that of the newest commit.
	Revision() Revision
	// Watch answers what was changed after a revision, oldest first, and the
	// revision of the last of it. It waits for a change until ctx ends; then
	// there is none. No commit waits for a watcher: one that is too slow gets
	// ErrCompacted. An edit that went past the store is not seen here, but by
	// those who read.
	Watch(ctx context.Context, after Revision) ([]Changed, Revision, error)
	Close() error
}

// In reads the documents of one collection, by what follows its name.
func In(documents Reader, collection string) Reader { return in{documents, collection + "/"} }

type in struct {
	Reader
	prefix string
}

func (i in) Get(name string) (Document, error)    { return i.Reader.Get(i.prefix + name) }
func (i in) Version(name string) (Version, error) { return i.Reader.Version(i.prefix + name) }

// splitName splits "collection/rest".
func splitName(name string) (collection, rest string, err error) {
	collection, rest, ok := strings.Cut(name, "/")
	if !ok || collection == "" || rest == "" {
		return "", "", fmt.Errorf("document name %q: want COLLECTION/NAME", name)
	}
	return collection, rest, nil
}

// checkChanges refuses what no implementation can do.
func checkChanges(changes []Change) error {
	seen := map[string]bool{}
	for _, c := range changes {
		if _, _, err := splitName(c.Name); err != nil {
			return err
		}
		if seen[c.Name] {
			return fmt.Errorf("document %s is changed twice in one commit", c.Name)
		}
		if len(c.Text) > MaxDocumentBytes {
			return fmt.Errorf("document %s with %d bytes, more than %d: %w", c.Name, len(c.Text), MaxDocumentBytes, ErrTooLarge)
		}
		seen[c.Name] = true
	}
	return nil
}
