package bootloader

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"edeploy/agent/internal/disk"
	"edeploy/agent/internal/grubcfg"
	"edeploy/agent/internal/treepath"
	"edeploy/images/manifest"
)

// names are what distributions call GRUB 2: Debian's, and Red Hat's and
// SUSE's, with their directory below /boot.
var names = []struct{ install, mkconfig, dir string }{
	{"grub-install", "grub-mkconfig", "/boot/grub"},
	{"grub2-install", "grub2-mkconfig", "/boot/grub2"},
}

// install runs the tree's GRUB for every firmware that the disk has a place for.
func (l Loader) install(ctx context.Context) ([]string, error) {
	for _, n := range names {
		install, err := l.program(n.install)
		if err != nil {
			continue
		}
		mkconfig, err := l.program(n.mkconfig)
		if err != nil {
			return nil, err
		}
		written := []string{n.dir + "/"}
		for _, esp := range l.ESPs {
			written = append(written, esp.Relative(l.Root)+"/")
		}
		settings, err := l.writeArguments()
		if err != nil {
			return nil, fmt.Errorf("write kernel parameters: %w", err)
		}
		if settings != "" {
			written = append(written, settings)
		}
		if err := l.installFor(ctx, install); err != nil {
			return nil, err
		}
		dir, err := treepath.Follow(l.Root, n.dir)
		if err != nil {
			return nil, err
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		// Not update-grub: it is this program with this argument.
		if err := l.inside(ctx, mkconfig, "-o", n.dir+"/grub.cfg"); err != nil {
			return nil, err
		}
		return written, checkConfig(filepath.Join(dir, "grub.cfg"))
	}
	return nil, fmt.Errorf("the tree has no grub-install or grub2-install: the role must hold GRUB 2 (Debian: grub-pc, and grub-efi-amd64-bin for UEFI)")
}

// installFor writes the loader for this machine's firmware, and that for the
// other one where disk and tree have all that it takes: a disk may move to
// another machine. The other disks of an array get it, too, so that the
// machine starts from what is left of it.
func (l Loader) installFor(ctx context.Context, install string) error {
	bios, err := l.placeForBIOS()
	if err != nil {
		return err
	}
	for _, name := range bios {
		// The target is named: a machine that happens to have UEFI variables,
		// or a tree that has both loaders, must not decide it.
		if err := l.inside(ctx, install, "--target=i386-pc", name); err != nil {
			return err
		}
	}
	if l.Firmware == UEFI || len(l.ESPs) > 0 && l.has(grubUEFI) {
		return l.installUEFI(ctx, install)
	}
	return nil
}

// Where GRUB's parts for a firmware are in a tree.
const (
	grubBIOS = "/usr/lib/grub/i386-pc"
	grubUEFI = "/usr/lib/grub/x86_64-efi"
)

func (l Loader) has(dir string) bool {
	_, err := os.Stat(filepath.Join(l.Root, dir))
	return err == nil
}

// placeForBIOS are the disks that get the loader for BIOS machines. On such a
// machine Disk must; else a disk does that has a place for it: an MBR, or on a
// UEFI machine, whose disks may have none, a GPT with a partition for it.
func (l Loader) placeForBIOS() ([]string, error) {
	disks, err := l.disks()
	if err != nil || l.Firmware != BIOS && !l.has(grubBIOS) {
		return nil, err
	}
	var places []string
	for i, name := range disks {
		if i == 0 && l.Firmware == BIOS {
			places = append(places, name)
			continue
		}
		table, err := l.Table(name)
		if err != nil {
			return nil, err
		}
		switch {
		case slices.ContainsFunc(table, func(p disk.Partition) bool { return p.Type == disk.TypeBIOS }), l.Firmware == BIOS && len(table) == 0:
			places = append(places, name)
		case l.Firmware == BIOS:
			l.Said(name + " gets no boot loader, though the system is on it: its GPT has no bios_grub partition")
		}
	}
	return places, nil
}

// disks are Disk and the others that the loader's files are on. Disk may be a
// link: /dev/disk/by-id/...
func (l Loader) disks() ([]string, error) {
	own := l.Disk
	if at, err := filepath.EvalSymlinks(l.Disk); err == nil {
		own = at
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	others := slices.DeleteFunc(slices.Clone(l.Below), func(name string) bool { return name == own })
	return append([]string{l.Disk}, others...), nil
}

// writeArguments adds the kernel parameters to the tree's settings: as a file
// of its own where Debian's grub-mkconfig looks for some, else at the end of
// the one settings file, which is a shell script. It answers what it wrote.
func (l Loader) writeArguments() (string, error) {
	arguments := strings.Join(strings.Fields(l.Arguments), " ")
	if arguments == "" {
		return "", nil
	}
	line := "GRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT " + quote(arguments) + "\"\n"
	name, flags := "/etc/default/grub", os.O_APPEND
	tree := treepath.OnDisk(l.Root)
	if dir, err := tree.Target(name + ".d"); err == nil {
		if kind, _, _ := tree(dir); kind == manifest.Dir {
			// The last in the order of names: the tree's own files may set what
			// this one adds to.
			name, flags = name+".d/zz-edeploy.cfg", os.O_TRUNC
		}
	}
	at, err := tree.Target(name)
	if err != nil {
		return "", err
	}
	file := filepath.Join(l.Root, at)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return "", err
	}
	f, err := os.OpenFile(file, flags|os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return "", err
	}
	_, err = f.WriteString("\n# kernel parameters of the installation\n" + line)
	return "/" + at, errors.Join(err, f.Close())
}

// quote escapes a text for a double-quoted shell string. A semicolon gets a
// backslash that reaches grub.cfg, where it would end the command.
func quote(text string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`", ";", `\\;`).Replace(text)
}

// checkConfig refuses a grub.cfg that would not find the root file system on
// the installed machine: one without kernels, or with a device name that the
// installing kernel gave.
func checkConfig(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	kernels := grubcfg.Kernels(string(text))
	for _, k := range kernels {
		if root := rootArgument(k.Arguments); !lasting(root) {
			return fmt.Errorf("%s boots %s with root=%s: want a UUID or a logical volume, which the installed kernel finds", file, k.Image, root)
		}
	}
	if len(kernels) == 0 {
		return fmt.Errorf("%s boots no kernel: the role must hold /boot/vmlinuz-*", file)
	}
	return nil
}

func rootArgument(words []string) string {
	for _, word := range words {
		if value, ok := strings.CutPrefix(word, "root="); ok {
			return value
		}
	}
	return ""
}

// lasting says whether the name of a root file system is the same on every
// boot.
func lasting(root string) bool {
	for _, prefix := range []string{"UUID=", "PARTUUID=", "LABEL=", "/dev/mapper/", "/dev/md", "ZFS=", "/dev/disk/by-"} {
		if strings.HasPrefix(root, prefix) {
			return true
		}
	}
	return false
}
