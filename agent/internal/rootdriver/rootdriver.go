// Package rootdriver finds out before the restart whether an installed kernel
// will find its root file system: whether its initramfs has a driver for
// everything that the root's disks are behind on this machine, and what starts
// the arrays and volumes on them and the file system.
//
// It reads sysfs, and the tree's initramfs and tables of modules (depmod(8)):
// modules.alias, and modules.builtin, which has names alone.
package rootdriver

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"edeploy/agent/internal/disk"
	"edeploy/agent/internal/treepath"
	"edeploy/images/manifest/initramfs"
)

// Kernel is an installed kernel and what it starts with.
type Kernel struct {
	Root    string // where the tree is
	Release string // "6.1.0-56-amd64"
	Initrd  string // path of its initramfs, from outside of the tree; "": none
}

// ErrUnknown says that nobody could look: a device that sysfs does not know, a
// tree without tables of modules.
var ErrUnknown = errors.New("not known")

// Check returns an error that says what the kernel lacks for the root file
// system, and what to do. An error that is ErrUnknown is no judgement. sys is
// where sysfs is mounted.
func Check(sys string, root disk.Mount, k Kernel) error {
	stack, err := disk.Stack(sys, root.Source)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	tables, err := k.tables()
	if err != nil {
		return err
	}
	early, err := k.early()
	if err != nil {
		return err
	}
	for _, d := range behind(stack) {
		if err := k.drives(d, root.Source, tables, early.modules); err != nil {
			return err
		}
	}
	module := func(name string) bool { return early.modules[name] || tables.builtin[name] }
	for _, p := range parts(stack, root.Type) {
		if lack := p.lacking(module, func(name string) bool { return early.files[name] }); lack != "" {
			return fmt.Errorf("the installed system would not find its root on %s: the initramfs of its kernel %s %s", root.Source, k.Release, lack)
		}
	}
	return nil
}

// early is what is in an initramfs.
type early struct{ files, modules map[string]bool }

func (k Kernel) early() (early, error) {
	if k.Initrd == "" {
		return early{}, nil
	}
	f, err := os.Open(k.Initrd)
	if err != nil {
		return early{}, fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	defer f.Close()
	names, err := initramfs.Read(f)
	if err != nil {
		return early{}, fmt.Errorf("%w: read %s: %w", ErrUnknown, k.Initrd, err)
	}
	return early{names, initramfs.Modules(maps.Keys(names))}, nil
}

// drives decides for one device.
func (k Kernel) drives(d device, source string, t tables, early map[string]bool) error {
	modules := t.drivers(d.alias)
	inside := func(m string) bool { return t.builtin[m] }
	if slices.ContainsFunc(modules, func(m string) bool { return early[m] }) || slices.ContainsFunc(d.modules, inside) {
		return nil
	}
	if len(modules) == 0 {
		return fmt.Errorf("the installed system would not find its root on %s: its kernel %s has no driver for %s; "+
			"build the role with a kernel that has one, such as linux-image-amd64", source, k.Release, d)
	}
	return fmt.Errorf("the installed system would not find its root on %s: the initramfs of its kernel %s has no driver for %s (it would be %s); "+
		"MODULES=most in the role's /etc/initramfs-tools/initramfs.conf brings it", source, k.Release, d, strings.Join(modules, " or "))
}

// tables say which modules drive which devices.
type tables struct {
	loadable []alias
	builtin  map[string]bool // modules that are part of the kernel
}

type alias struct{ pattern, module string }

// tables reads the tree's. A kernel without them has no modules, or was not
// installed as Debian does it.
func (k Kernel) tables() (tables, error) {
	text := func(name string) (string, error) {
		file, err := treepath.Follow(k.Root, "/lib/modules/"+k.Release+"/"+name)
		if err != nil {
			return "", err
		}
		b, err := os.ReadFile(file)
		return string(b), err
	}
	loadable, err := text("modules.alias")
	if err != nil {
		return tables{}, fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	builtin, err := text("modules.builtin")
	if err != nil {
		return tables{}, fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	return tables{loadableAliases(loadable), initramfs.Modules(slices.Values(strings.Fields(builtin)))}, nil
}

// loadableAliases reads lines "alias PATTERN MODULE".
func loadableAliases(text string) []alias {
	var all []alias
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) == 3 && words[0] == "alias" {
			all = append(all, alias{words[1], initramfs.ModuleName(words[2])})
		}
	}
	return all
}

// drivers are the modules that say they drive the device.
func (t tables) drivers(device string) []string {
	var modules []string
	for _, a := range t.loadable {
		if a.fits(device) && !slices.Contains(modules, a.module) {
			modules = append(modules, a.module)
		}
	}
	return modules
}

// fits compares as modprobe does: a shell pattern, "-" and "_" are the same.
func (a alias) fits(device string) bool {
	ok, err := filepath.Match(dashes(a.pattern), dashes(device))
	return ok && err == nil
}

// dashes makes "-" into "_" but for those in ranges, and "/" into something
// that is like any other character in a pattern.
func dashes(s string) string {
	inside := false
	return strings.Map(func(r rune) rune {
		switch {
		case r == '[' || r == ']':
			inside = r == '['
		case r == '-' && !inside:
			return '_'
		case r == '/':
			return '!'
		}
		return r
	}, s)
}
