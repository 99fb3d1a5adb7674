package bootguard

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// entry is a menuentry of grub.cfg that starts a Linux kernel.
type entry struct {
	body    []string // its lines
	kernel  string   // path for GRUB
	initrds []string
	single  bool // a recovery mode
}

// The commands of GRUB that load a kernel and its initial RAM disks.
var (
	linuxCommands  = []string{"linux", "linux16", "linuxefi"}
	initrdCommands = []string{"initrd", "initrd16", "initrdefi"}
)

// entries are the Linux entries of a grub.cfg as grub-mkconfig writes it (one
// command a line), those of submenus included, in their order.
func entries(config string) []entry {
	var found []entry
	var body []string
	depth := 0 // of braces in an entry; 0: outside
	for line := range strings.Lines(config) {
		line = strings.TrimSpace(line)
		switch {
		case depth == 0:
			if strings.HasPrefix(line, "menuentry ") && strings.HasSuffix(line, "{") {
				depth, body = 1, nil
			}
			continue
		case strings.HasSuffix(line, "{"):
			depth++
		case line == "}":
			depth--
		}
		if depth > 0 {
			body = append(body, line)
		} else if e, ok := readEntry(body); ok {
			found = append(found, e)
		}
	}
	return found
}

// readEntry understands the body of an entry, unless its paths hold variables
// or devices.
func readEntry(body []string) (entry, bool) {
	e := entry{body: body}
	for _, line := range body {
		words := strings.Fields(line)
		switch {
		case len(words) < 2:
		case slices.Contains(linuxCommands, words[0]):
			e.kernel = words[1]
			e.single = slices.Contains(words, "single") || slices.Contains(words, "recovery")
		case slices.Contains(initrdCommands, words[0]):
			e.initrds = words[1:]
		}
	}
	for _, name := range append([]string{e.kernel}, e.initrds...) {
		if !path.IsAbs(name) || strings.ContainsAny(name, `$"'\`) {
			return e, false
		}
	}
	return e, len(e.initrds) > 0
}

// files are the names in /boot of what the entry loads.
func (e entry) files() []string {
	names := []string{path.Base(e.kernel)}
	for _, initrd := range e.initrds {
		names = append(names, path.Base(initrd))
	}
	return names
}

// choose takes the entry that starts the running kernel, which has shown that
// it starts this machine, or else the first one; of those whose files are there.
func choose(found []entry, release string, there func(file string) bool) (entry, error) {
	normal := slices.DeleteFunc(slices.Clone(found), func(e entry) bool {
		return e.single || slices.ContainsFunc(e.files(), func(name string) bool { return !there(name) })
	})
	for _, e := range normal {
		if strings.HasSuffix(path.Base(e.kernel), "-"+release) {
			return e, nil
		}
	}
	if len(normal) == 0 {
		return entry{}, errors.New("it has no entry that starts a kernel with an initial RAM disk and whose files are in /boot")
	}
	return normal[0], nil
}

// mark is the first line of our custom.cfg.
const mark = "# edeploy: an upgrade is changing this machine, which is to be recovered first.\n"

// left out of the copied entry: they write into grubenv.
var forgotten = []string{"savedefault", "recordfail"}

// custom makes the custom.cfg that starts the recovery, out of a grub.cfg that
// reads it at its end (/etc/grub.d/41_custom), where its default is the last
// word. It also answers the names in /boot of the files that the entry loads;
// their copies lie in Dir. there tells whether a file is in /boot.
func custom(config, release string, there func(file string) bool) (text string, files []string, err error) {
	if !strings.Contains(config, "custom.cfg") {
		return "", nil, errors.New("it does not read custom.cfg: /etc/grub.d/41_custom is needed")
	}
	e, err := choose(entries(config), release, there)
	if err != nil {
		return "", nil, err
	}
	var b strings.Builder
	b.WriteString(mark)
	fmt.Fprintf(&b, "menuentry 'Recover the interrupted upgrade' --unrestricted --id %s {\n", entryID)
	for _, line := range e.body {
		if words := strings.Fields(line); len(words) > 0 && !slices.Contains(forgotten, words[0]) {
			b.WriteString("\t" + rewrite(line, words) + "\n")
		}
	}
	// The first entry is tried when this one cannot be loaded; a menu that
	// waits for ever would leave the machine there.
	fmt.Fprintf(&b, "}\nset default=%s\nset fallback=0\nset timeout=1\n", entryID)
	return b.String(), e.files(), nil
}

const entryID = "edeploy-recover"

// rewrite leads one command to the copies.
func rewrite(line string, words []string) string {
	switch {
	case slices.Contains(linuxCommands, words[0]):
		_, arguments, _ := strings.Cut(line, words[1])
		return words[0] + "\t" + copied(words[1]) + " " + strings.TrimSpace(arguments) + " " + Parameter
	case slices.Contains(initrdCommands, words[0]):
		out := words[0] + "\t"
		for i, name := range words[1:] {
			if i > 0 {
				out += " "
			}
			out += copied(name)
		}
		return out
	}
	return line
}

// copied is where the copy of a file in /boot is for GRUB, whatever /boot is
// for it: "/boot/x" or, on a file system of its own, "/x".
func copied(name string) string {
	return path.Join(path.Dir(name), path.Base(Dir), path.Base(name))
}
