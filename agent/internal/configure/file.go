package configure

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"go.starlark.net/starlark"
)

// maxRead bounds what one read brings into memory.
const maxRead = 64 << 20

// openFiles closes what a script left open.
type openFiles struct{ files []*file }

func (o *openFiles) closeAll() error {
	var errs []error
	for _, f := range o.files {
		errs = append(errs, f.close())
	}
	return errors.Join(errs...)
}

// open opens a file as Python does; mode is r, w, a or x, with b, t and +
// ignored or as in Python.
func (o *openFiles) open(path, mode string) (*file, error) {
	flags := map[string]int{
		"r": os.O_RDONLY, "r+": os.O_RDWR,
		"w": os.O_WRONLY | os.O_CREATE | os.O_TRUNC, "w+": os.O_RDWR | os.O_CREATE | os.O_TRUNC,
		"a": os.O_WRONLY | os.O_CREATE | os.O_APPEND, "a+": os.O_RDWR | os.O_CREATE | os.O_APPEND,
		"x": os.O_WRONLY | os.O_CREATE | os.O_EXCL,
	}
	flag, ok := flags[strings.NewReplacer("b", "", "t", "", "U", "").Replace(mode)]
	if !ok {
		return nil, fmt.Errorf("open %s: mode %q: want 'r', 'w' or 'a'", path, mode)
	}
	f, err := os.OpenFile(path, flag, 0o644)
	if err != nil {
		return nil, err
	}
	opened := &file{f: f, name: path}
	opened.r = bufio.NewReader(f)
	o.files = append(o.files, opened)
	return opened, nil
}

// file is Python's file object.
type file struct {
	f    *os.File
	r    *bufio.Reader
	name string
}

var (
	_ starlark.HasAttrs = (*file)(nil)
	_ starlark.Iterable = (*file)(nil)
)

func (f *file) String() string        { return fmt.Sprintf("<file %s>", f.name) }
func (f *file) Type() string          { return "file" }
func (f *file) Freeze()               {}
func (f *file) Truth() starlark.Bool  { return true }
func (f *file) Hash() (uint32, error) { return 0, errors.New("a file cannot be a dictionary key") }

// Iterate gives the lines that are left.
func (f *file) Iterate() starlark.Iterator { return &lineIterator{f} }

type lineIterator struct{ f *file }

func (it *lineIterator) Next(p *starlark.Value) bool {
	line, err := it.f.r.ReadString('\n')
	*p = starlark.String(line)
	return line != "" || err == nil
}

func (it *lineIterator) Done() {}

func (f *file) close() error {
	if f.f == nil {
		return nil
	}
	err := f.f.Close()
	f.f = nil
	return err
}

type method func(f *file, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error)

var methods = map[string]method{
	"write":      (*file).write,
	"writelines": (*file).writelines,
	"read":       (*file).read,
	"readline":   (*file).readline,
	"readlines":  (*file).readlines,
	"flush":      func(*file, starlark.Tuple, []starlark.Tuple) (starlark.Value, error) { return starlark.None, nil },
}

// Attr finds a method.
func (f *file) Attr(name string) (starlark.Value, error) {
	if name == "name" {
		return starlark.String(f.name), nil
	}
	if name == "close" {
		return starlark.NewBuiltin(name, func(*starlark.Thread, *starlark.Builtin, starlark.Tuple, []starlark.Tuple) (starlark.Value, error) {
			return starlark.None, f.close()
		}), nil
	}
	m, ok := methods[name]
	if !ok {
		return nil, nil // no such attribute: the interpreter says it
	}
	return starlark.NewBuiltin(name, func(_ *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		if f.f == nil {
			return nil, fmt.Errorf("%s %s: the file is closed", name, f.name)
		}
		return m(f, args, kwargs)
	}), nil
}

// AttrNames lists the methods.
func (f *file) AttrNames() []string {
	return []string{"close", "flush", "name", "read", "readline", "readlines", "write", "writelines"}
}

func (f *file) write(args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var text string
	if err := starlark.UnpackPositionalArgs("write", args, kwargs, 1, &text); err != nil {
		return nil, err
	}
	n, err := f.f.WriteString(text)
	return starlark.MakeInt(n), err
}

func (f *file) writelines(args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var lines starlark.Iterable
	if err := starlark.UnpackPositionalArgs("writelines", args, kwargs, 1, &lines); err != nil {
		return nil, err
	}
	it := lines.Iterate()
	defer it.Done()
	var v starlark.Value
	for it.Next(&v) {
		text, ok := starlark.AsString(v)
		if !ok {
			return nil, fmt.Errorf("writelines: want strings, got a %s", v.Type())
		}
		if _, err := f.f.WriteString(text); err != nil {
			return nil, err
		}
	}
	return starlark.None, nil
}

func (f *file) read(args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	most := -1
	if err := starlark.UnpackPositionalArgs("read", args, kwargs, 0, &most); err != nil {
		return nil, err
	}
	text, err := f.rest(most)
	return starlark.String(text), err
}

// rest reads up to most bytes, or everything when most is negative.
func (f *file) rest(most int) (string, error) {
	limit := int64(maxRead)
	if most >= 0 {
		limit = min(limit, int64(most))
	}
	text, err := io.ReadAll(io.LimitReader(f.r, limit))
	if err == nil && most < 0 && len(text) == maxRead {
		err = fmt.Errorf("read %s: the file is larger than %d bytes", f.name, maxRead)
	}
	return string(text), err
}

func (f *file) readline(args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	if err := starlark.UnpackPositionalArgs("readline", args, kwargs, 0); err != nil {
		return nil, err
	}
	line, err := f.r.ReadString('\n')
	if err == io.EOF {
		err = nil
	}
	return starlark.String(line), err
}

func (f *file) readlines(args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	if err := starlark.UnpackPositionalArgs("readlines", args, kwargs, 0); err != nil {
		return nil, err
	}
	text, err := f.rest(-1)
	var lines []starlark.Value
	for line := range strings.Lines(text) {
		lines = append(lines, starlark.String(line))
	}
	return starlark.NewList(lines), err
}
