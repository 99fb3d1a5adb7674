package detect

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"strings"
)

// reader is how probes look through the door; a recorder sees what they see.
type reader struct{ door Source }

// bytes is a file's content. An error of sysfs often means that there is no value.
func (r reader) bytes(elem ...string) ([]byte, error) {
	name := path.Join(elem...)
	data, err := fs.ReadFile(r.door.FS, name)
	r.door.seen.file(r.door.FS, name, data, err)
	return data, err
}

// text is a file's content without blanks around it; "" when it cannot be read.
func (r reader) text(elem ...string) string {
	data, err := r.bytes(elem...)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// dmi is a text of the firmware's tables.
func (r reader) dmi(name string) string {
	if r.door.DMI == nil {
		return r.text(dmi, name)
	}
	value := r.door.DMI()[name]
	if value != "" {
		r.door.seen.file(r.door.FS, path.Join(dmi, name), []byte(value+"\n"), nil)
	}
	return value
}

// link is the last element of a symbolic link's target.
func (r reader) link(elem ...string) string {
	if target := r.target(elem...); target != "" {
		return path.Base(target)
	}
	return ""
}

// target is what a symbolic link holds.
func (r reader) target(elem ...string) string {
	name := path.Join(elem...)
	target, err := fs.ReadLink(r.door.FS, name)
	if err != nil {
		return ""
	}
	r.door.seen.path(r.door.FS, name)
	return target
}

// exists tells whether there is something of that name.
func (r reader) exists(elem ...string) bool {
	name := path.Join(elem...)
	_, err := fs.Stat(r.door.FS, name)
	if err == nil {
		r.door.seen.path(r.door.FS, name)
	}
	return err == nil
}

// glob are the paths that match a pattern, in natural order.
func (r reader) glob(elem ...string) []string {
	names, _ := fs.Glob(r.door.FS, path.Join(elem...)) // patterns are constants
	slices.SortFunc(names, func(a, b string) int {
		if path.Dir(a) == path.Dir(b) {
			a, b = path.Base(a), path.Base(b)
		}
		return Natural(a, b)
	})
	for _, name := range names {
		r.door.seen.path(r.door.FS, name)
	}
	return names
}

// number is a file's content as a decimal number.
func (r reader) number(elem ...string) (int64, bool) {
	n, err := strconv.ParseInt(r.text(elem...), 10, 64)
	return n, err == nil
}

var errNoProgram = errors.New("the program is not there")

// run is what a program says; it may have failed, too.
func (r reader) run(ctx context.Context, argv ...string) (Output, error) {
	out, err := r.door.Run(ctx, argv...)
	if errors.Is(err, exec.ErrNotFound) {
		return Output{}, errNoProgram
	}
	r.door.seen.program(argv, out, err)
	return out, err
}

// good is what a program says that ends well.
func (r reader) good(ctx context.Context, argv ...string) (string, error) {
	out, err := r.run(ctx, argv...)
	if err == nil && out.Exit != 0 {
		err = fmt.Errorf("%s: exit status %d", strings.Join(argv, " "), out.Exit)
	}
	return out.Text, err
}
