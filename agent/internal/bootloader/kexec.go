package bootloader

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"edeploy/agent/internal/grubcfg"
	"edeploy/agent/internal/treepath"

	"golang.org/x/sys/unix"
)

// Kernel is what kexec starts: an entry of the installed GRUB configuration.
type Kernel struct {
	Image     string // path of the kernel, from the ramdisk's point of view
	Initrd    string // "" is none
	Arguments string
}

func (k Kernel) String() string { return k.Image + " " + k.Arguments }

// ChooseKernel finds the kernel that the installed system would boot: the
// first of its GRUB configuration, or the only one whose file name holds match
// (KEXEC_KERNEL). Its arguments are those of GRUB; when they name no console,
// those of the running kernel are added (reference section 1.5).
func ChooseKernel(root, match, cmdline string) (Kernel, error) {
	for _, dir := range grubcfg.Dirs {
		config, err := treepath.Follow(root, dir+"/grub.cfg")
		if err != nil {
			return Kernel{}, err
		}
		text, err := os.ReadFile(config)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Kernel{}, err
		}
		kernel, err := pick(grubcfg.Kernels(string(text)), match)
		if err != nil {
			return Kernel{}, err
		}
		kernel.Image = bootFile(root, kernel.Image)
		if kernel.Initrd != "" {
			kernel.Initrd = bootFile(root, kernel.Initrd)
		}
		if !strings.Contains(" "+kernel.Arguments, " console=") {
			kernel.Arguments = strings.Join(append([]string{kernel.Arguments}, consoles(cmdline)...), " ")
		}
		return kernel, nil
	}
	return Kernel{}, errors.New("kexec: the tree has no grub.cfg")
}

func pick(kernels []grubcfg.Kernel, match string) (Kernel, error) {
	var images []string
	var found []Kernel
	for _, k := range kernels {
		if strings.Contains(path.Base(k.Image), match) && !slices.Contains(images, k.Image) {
			images = append(images, k.Image)
			found = append(found, Kernel{k.Image, strings.Join(k.Initrds[:min(1, len(k.Initrds))], ""), strings.Join(k.Arguments, " ")})
		}
	}
	switch {
	case len(found) == 0:
		return Kernel{}, fmt.Errorf("kexec: the tree boots no kernel whose name holds %q", match)
	case len(found) > 1 && match != "":
		return Kernel{}, fmt.Errorf("kexec: KEXEC_KERNEL=%s fits %s", match, strings.Join(images, " and "))
	}
	return found[0], nil
}

// bootFile finds a file of grub.cfg, whose paths are those inside a file
// system: they lack /boot where that is one of its own, and begin with the
// subvolume of a Btrfs.
func bootFile(root, name string) string {
	name = filepath.Join("/", name)
	for rest, more := name[1:], true; more; _, rest, more = strings.Cut(rest, "/") {
		for _, dir := range []string{"/", "/boot/"} {
			p, err := treepath.Follow(root, dir+rest)
			if err != nil {
				continue
			}
			if _, err := os.Stat(p); err == nil {
				return p
			}
		}
	}
	return filepath.Join(root, name)
}

func consoles(cmdline string) []string {
	var words []string
	for _, word := range strings.Fields(cmdline) {
		if strings.HasPrefix(word, "console=") {
			words = append(words, word)
		}
	}
	return words
}

// Load hands the kernel to kexec, which starts it when the machine goes down.
func Load(k Kernel) error {
	image, err := os.Open(k.Image)
	if err != nil {
		return err
	}
	defer image.Close()
	flags, ramdisk := unix.KEXEC_FILE_NO_INITRAMFS, -1
	if k.Initrd != "" {
		f, err := os.Open(k.Initrd)
		if err != nil {
			return err
		}
		defer f.Close()
		flags, ramdisk = 0, int(f.Fd())
	}
	if err := unix.KexecFileLoad(int(image.Fd()), ramdisk, k.Arguments, flags); err != nil {
		return fmt.Errorf("kexec load %s: %w", k.Image, err)
	}
	return nil
}
