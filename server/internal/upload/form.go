// Package upload reads what a machine posts to upload.py (reference section
// 4.2): a multipart form with its hardware description, or with a log file.
// The form comes from anybody on the network: every part is bounded, nothing
// is evaluated, and a log goes to a temporary file, not into memory.
package upload

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"path"
	"strings"

	"edeploy/server/internal/literal"
	"edeploy/server/internal/refusal"
	"edeploy/server/wire"
)

// Refusals that callers branch on.
var (
	ErrForm     = refusal.New(refusal.Input, "bad upload form")
	ErrNoFile   = refusal.New(refusal.Input, "No file passed to the CGI") // the original's words
	ErrHardware = refusal.New(refusal.Input, "Invalid hardware file")     // the original's words
	ErrTooLarge = refusal.New(refusal.TooLarge, "upload is too large")
	ErrSpool    = refusal.New(refusal.NoSpace, "no place for the upload")
)

// DefaultSection is the deployment of a machine that names none.
const DefaultSection = "SERVER"

// LogSuffix is how the file name of a log ends.
const LogSuffix = ".log.gz"

// Bounds of a form.
const (
	maxParts      = 16
	maxFieldBytes = 1024
)

// Form is one upload. Exactly one of Hardware and Log is set.
type Form struct {
	Section  string // deployment
	Failure  string // not empty: a failure report about this profile
	Hardware wire.Hardware
	Log      *Log
}

// Log is an uploaded log in a temporary file.
type Log struct {
	Name  string // its base name, as the machine gave it
	Path  string // the temporary file
	Bytes int64
}

// Discard removes the temporary file, if it is still there.
func (f Form) Discard() {
	if f.Log != nil {
		_ = os.Remove(f.Log.Path) // moved away when all went well
	}
}

// Read reads a form; a log goes into the directory spool. The caller bounds
// the body with http.MaxBytesReader and calls Discard.
func Read(parts *multipart.Reader, spool string) (Form, error) {
	f := Form{Section: DefaultSection}
	err := f.read(parts, spool)
	if err == nil && f.Hardware == nil && f.Log == nil {
		err = ErrNoFile
	}
	if err != nil {
		f.Discard()
		return Form{}, err
	}
	return f, nil
}

func (f *Form) read(parts *multipart.Reader, spool string) error {
	for n := 0; ; n++ {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return bodyError("read the form", err)
		}
		if n == maxParts {
			return fmt.Errorf("%w: it has more than %d parts", ErrForm, maxParts)
		}
		if err := f.readPart(part, spool); err != nil {
			return err
		}
	}
}

func (f *Form) readPart(part *multipart.Part, spool string) (err error) {
	switch part.FormName() {
	case "section":
		f.Section, err = readField(part)
	case "failure":
		f.Failure, err = readField(part)
	case "file":
		if f.Hardware != nil || f.Log != nil {
			return fmt.Errorf("%w: it has two files", ErrForm)
		}
		if strings.HasSuffix(part.FileName(), LogSuffix) {
			f.Log, err = readLog(part, spool)
		} else {
			f.Hardware, err = readHardware(part)
		}
	}
	return err // other fields are none of ours
}

func readField(part *multipart.Part) (string, error) {
	text, err := io.ReadAll(io.LimitReader(part, maxFieldBytes+1))
	if err != nil {
		return "", bodyError("read the field "+part.FormName(), err)
	}
	if len(text) > maxFieldBytes {
		return "", fmt.Errorf("%w: field %s has more than %d bytes", ErrTooLarge, part.FormName(), maxFieldBytes)
	}
	return strings.TrimSpace(string(text)), nil
}

func readHardware(part io.Reader) (wire.Hardware, error) {
	text, err := io.ReadAll(io.LimitReader(part, wire.MaxHardwareBytes+1))
	if err != nil {
		return nil, bodyError("read the hardware description", err)
	}
	return ParseHardware(text)
}

// ParseHardware reads a description: a JSON array of arrays, or, as agents of
// 2013 send it and the server keeps it in .hw files, a Python list of tuples.
func ParseHardware(text []byte) (wire.Hardware, error) {
	if len(text) > wire.MaxHardwareBytes {
		return nil, fmt.Errorf("%w: the hardware description has more than %d bytes", ErrTooLarge, wire.MaxHardwareBytes)
	}
	decode := wire.DecodeHardware
	if isLiteral(text) {
		decode = decodeLiteral
	}
	h, err := decode(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHardware, err)
	}
	if h == nil {
		h = wire.Hardware{} // a file was there, with an empty list
	}
	return h, nil
}

// isLiteral: the list starts with a tuple.
func isLiteral(text []byte) bool {
	rest, ok := bytes.CutPrefix(bytes.TrimSpace(text), []byte("["))
	return ok && bytes.HasPrefix(bytes.TrimSpace(rest), []byte("("))
}

func decodeLiteral(r io.Reader) (wire.Hardware, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	doc, err := literal.Parse("hardware description", string(text))
	if err != nil {
		return nil, err
	}
	list, ok := doc.Node.Value.(literal.List)
	if !ok {
		return nil, errors.New("want a list of tuples")
	}
	if len(list) > wire.MaxFacts {
		return nil, fmt.Errorf("it has more than %d facts", wire.MaxFacts)
	}
	h := make(wire.Hardware, len(list))
	for i, item := range list {
		if h[i], err = literalFact(item); err != nil {
			return nil, fmt.Errorf("item %d: %w", i+1, err)
		}
	}
	return h, nil
}

func literalFact(item literal.Value) (wire.Fact, error) {
	values, ok := item.(literal.Tuple)
	if list, isList := item.(literal.List); isList {
		values, ok = literal.Tuple(list), true
	}
	if !ok || len(values) != 4 {
		return wire.Fact{}, errors.New("want a tuple of four values")
	}
	for _, v := range values {
		switch v.(type) {
		case string, int64, float64, bool, nil:
		default:
			return wire.Fact{}, errors.New("want strings and numbers only")
		}
	}
	text := func(v any) string { return wire.Fact{Value: v}.Text() }
	return wire.Fact{Category: text(values[0]), ID: text(values[1]), Field: text(values[2]), Value: values[3]}, nil
}

func readLog(part *multipart.Part, spool string) (*Log, error) {
	file, err := os.CreateTemp(spool, "upload-*")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSpool, err)
	}
	l := &Log{Name: path.Base(part.FileName()), Path: file.Name()}
	l.Bytes, err = io.Copy(file, part)
	if err != nil {
		file.Close()
		_ = os.Remove(l.Path) // the error to tell is the other one
		return nil, bodyError("read the log "+l.Name, err)
	}
	if err := file.Close(); err != nil {
		_ = os.Remove(l.Path)
		return nil, fmt.Errorf("%w: %w", ErrSpool, err)
	}
	return l, nil
}

// bodyError tells a body that is too large, a file system that is full, and a
// form that is broken or cut off apart.
func bodyError(doing string, err error) error {
	var tooLarge *http.MaxBytesError
	var file *os.PathError
	switch {
	case errors.As(err, &tooLarge):
		return fmt.Errorf("%w: the limit is %d bytes", ErrTooLarge, tooLarge.Limit)
	case errors.As(err, &file):
		return fmt.Errorf("%w: %w", ErrSpool, err)
	}
	return fmt.Errorf("%w: %s: %w", ErrForm, doing, err)
}

// Weight is about what a description holds on to in memory, in bytes.
func Weight(h wire.Hardware) int {
	const ofUpload, ofFact = 4 << 10, 64 // without facts, without texts
	bytes := ofUpload
	for _, f := range h {
		bytes += ofFact + len(f.Category) + len(f.ID) + len(f.Field)
		if text, ok := f.Value.(string); ok {
			bytes += len(text)
		}
	}
	return bytes
}
