// Package grubcfg reads the grub.cfg that grub-mkconfig writes: one command a
// line (GRUB manual, "Writing full configuration files directly").
package grubcfg

import (
	"slices"
	"strings"
)

// Dirs are what distributions call GRUB's directory: Debian's, and Red Hat's
// and SUSE's.
var Dirs = []string{"boot/grub", "boot/grub2"}

// Kernel is a command that loads a Linux kernel.
type Kernel struct {
	Image     string   // path for GRUB
	Arguments []string // kernel parameters
	Initrds   []string // paths for GRUB
	Entry     []string // the lines of the menu entry; nil outside of one. Of several in one entry the last is started.
}

// IsLinux tells whether a command of GRUB loads a kernel.
func IsLinux(command string) bool {
	return slices.Contains([]string{"linux", "linux16", "linuxefi"}, command)
}

// IsInitrd tells whether a command of GRUB loads initial RAM disks.
func IsInitrd(command string) bool {
	return slices.Contains([]string{"initrd", "initrd16", "initrdefi"}, command)
}

// Kernels are those that a grub.cfg loads, those of submenus included, in their
// order.
func Kernels(config string) []Kernel {
	var found []Kernel
	var entry []string
	depth, begun := 0, 0 // of braces in an entry, 0: outside; len(found) at its beginning
	for line := range strings.Lines(config) {
		line = strings.TrimSpace(line)
		words := strings.Fields(strings.ReplaceAll(line, `\;`, ";"))
		switch {
		case depth == 0 && strings.HasPrefix(line, "menuentry ") && strings.HasSuffix(line, "{"):
			depth, begun, entry = 1, len(found), nil
			continue
		case depth > 0 && strings.HasSuffix(line, "{"):
			depth++
		case depth > 0 && line == "}":
			depth--
			for i := begun; depth == 0 && i < len(found); i++ {
				found[i].Entry = entry
			}
		case len(words) >= 2 && IsLinux(words[0]):
			found = append(found, Kernel{Image: words[1], Arguments: words[2:]})
		case len(words) >= 2 && IsInitrd(words[0]) && len(found) > begun:
			found[len(found)-1].Initrds = words[1:]
		}
		if depth > 0 {
			entry = append(entry, line)
		}
	}
	return found
}
