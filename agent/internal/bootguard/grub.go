package bootguard

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"edeploy/agent/internal/grubcfg"
)

// candidates are the kernels that entries start, unless their paths hold
// variables or devices, or they are started for a recovery mode.
func candidates(config string) []grubcfg.Kernel {
	kernels := grubcfg.Kernels(config)
	var found []grubcfg.Kernel
	for i, k := range kernels {
		last := i+1 == len(kernels) || len(kernels[i+1].Entry) == 0 || &kernels[i+1].Entry[0] != &k.Entry[0]
		odd := func(name string) bool { return !path.IsAbs(name) || strings.ContainsAny(name, `$"'\`) }
		if k.Entry == nil || !last || len(k.Initrds) == 0 || odd(k.Image) || slices.ContainsFunc(k.Initrds, odd) ||
			slices.Contains(k.Arguments, "single") || slices.Contains(k.Arguments, "recovery") {
			continue
		}
		found = append(found, k)
	}
	return found
}

func files(k grubcfg.Kernel) []string {
	names := []string{path.Base(k.Image)}
	for _, initrd := range k.Initrds {
		names = append(names, path.Base(initrd))
	}
	return names
}

// choose takes the running kernel, which has shown that it starts this machine,
// or else the first one; of those whose files are there.
func choose(found []grubcfg.Kernel, release string, there func(file string) bool) (grubcfg.Kernel, error) {
	found = slices.DeleteFunc(found, func(k grubcfg.Kernel) bool {
		return slices.ContainsFunc(files(k), func(name string) bool { return !there(name) })
	})
	for _, k := range found {
		if strings.HasSuffix(path.Base(k.Image), "-"+release) {
			return k, nil
		}
	}
	if len(found) == 0 {
		return grubcfg.Kernel{}, errors.New("it has no entry that starts a kernel with an initial RAM disk and whose files are in /boot")
	}
	return found[0], nil
}

// mark is the first line of our custom.cfg.
const mark = "# edeploy: an upgrade is changing this machine, which is to be recovered first.\n"

// left out of the copied entry: they write into grubenv.
var leftOut = []string{"savedefault", "recordfail"}

// custom makes the custom.cfg that starts the recovery, out of a grub.cfg that
// reads it at its end (/etc/grub.d/41_custom), where its default is the last
// word. It also answers the names in /boot of the files that the entry loads;
// their copies lie in Dir. there tells whether a file is in /boot.
func custom(config, release string, there func(file string) bool) (text string, names []string, err error) {
	if !strings.Contains(config, "custom.cfg") {
		return "", nil, errors.New("it does not read custom.cfg: /etc/grub.d/41_custom is needed")
	}
	e, err := choose(candidates(config), release, there)
	if err != nil {
		return "", nil, err
	}
	var b strings.Builder
	b.WriteString(mark)
	fmt.Fprintf(&b, "menuentry 'Recover the interrupted upgrade' --unrestricted --id %s {\n", entryID)
	for _, line := range e.Entry {
		if words := strings.Fields(line); len(words) > 0 && !slices.Contains(leftOut, words[0]) {
			b.WriteString("\t" + rewrite(line, words) + "\n")
		}
	}
	// The first entry is tried when this one cannot be loaded; a menu that
	// waits for ever would leave the machine there.
	fmt.Fprintf(&b, "}\nset default=%s\nset fallback=0\nset timeout=1\n", entryID)
	return b.String(), files(e), nil
}

const entryID = "edeploy-recover"

func rewrite(line string, words []string) string {
	switch {
	case grubcfg.IsLinux(words[0]):
		_, arguments, _ := strings.Cut(line, words[1])
		return words[0] + "\t" + copied(words[1]) + " " + strings.TrimSpace(arguments) + " " + Parameter
	case grubcfg.IsInitrd(words[0]):
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
