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
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
)

// MaxDocumentBytes bounds one document.
const MaxDocumentBytes = 16 << 20

// Errors that callers branch on.
var (
	// ErrNotExist: there is no document of that name.
	ErrNotExist = errors.New("no such document")
	// ErrConflict: a document is not the version that the change was made
	// from. Nothing was changed: read again, decide again.
	ErrConflict = errors.New("the document was changed meanwhile")
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
	Name    string
	Text    []byte
	Version Version
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

// Store is a set of named documents. A name is a collection and the rest,
// joined by a slash: "machines/52-54-00-00-00-01.json".
type Store interface {
	// Get reads a document; ErrNotExist when there is none.
	Get(name string) (Document, error)
	// List names the documents of one collection, sorted.
	List(collection string) ([]string, error)
	// Infos describes the documents of one collection, sorted by name.
	Infos(collection string) ([]Info, error)
	// Commit makes all changes or none. ErrConflict: none was made because a
	// document had another version. After any other error they may still be
	// made: read the documents again.
	Commit(changes ...Change) error
}

// VersionIn is the present version of a document; Absent when there is none.
func VersionIn(s Store, name string) (Version, error) {
	doc, err := s.Get(name)
	if errors.Is(err, ErrNotExist) {
		return Absent, nil
	}
	return doc.Version, err
}

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
			return fmt.Errorf("document %s would have %d bytes, more than %d", c.Name, len(c.Text), MaxDocumentBytes)
		}
		seen[c.Name] = true
	}
	return nil
}
