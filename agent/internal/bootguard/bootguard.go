// Package bootguard keeps a machine bootable while an upgrade changes its root
// file system: for that time GRUB starts copies of a kernel and an initial RAM
// disk that the upgrade does not touch, with a kernel parameter that tells the
// initial RAM disk to recover the root first.
//
// It writes, and removes again:
//
//	/boot/edeploy/          copies of the kernel and of its initial RAM disks
//	/boot/grub/custom.cfg   read by grub.cfg at its end (GRUB manual, "Simple
//	                        configuration handling"); one of the user's is kept
//	                        as /boot/edeploy/custom.cfg meanwhile
package bootguard

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"edeploy/agent/internal/grubcfg"
	"edeploy/agent/internal/treepath"
)

// Dir is where the copies are, below the root.
const Dir = "boot/edeploy"

// Parameter is what the recovery's kernel is started with.
const Parameter = "edeploy.recover"

// grubs are grubcfg.Dirs as the root's links lead there.
func grubs(root *os.Root) []string {
	var dirs []string
	for _, name := range grubcfg.Dirs {
		if dir, err := treepath.OnDisk(root.Name()).Target(name); err == nil {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// Guard is a machine's boot guard. Its zero value guards the running system.
type Guard struct {
	Root    string       // where the installed system is mounted; "" is "/"
	Release string       // of the kernel whose entry is preferred; "" is the running one's
	Log     *slog.Logger // silent when nil
}

func (g Guard) root() string { return cmp.Or(g.Root, "/") }

// Arm makes GRUB start the recovery. It is durable when it returns. A machine
// without GRUB is warned about and left as it is.
func (g Guard) Arm(ctx context.Context) error {
	root, err := os.OpenRoot(g.root())
	if err != nil {
		return err
	}
	defer root.Close()
	grub, config, err := readConfig(root)
	if errors.Is(err, fs.ErrNotExist) {
		if g.Log != nil {
			g.Log.Warn("there is no boot/grub/grub.cfg: a power cut in this upgrade is recovered only if the machine still starts by itself")
		}
		return nil
	}
	if err != nil {
		return err
	}
	release := g.Release
	if release == "" {
		release = runningRelease()
	}
	text, files, err := custom(config, release, func(file string) bool {
		info, err := root.Stat("boot/" + file)
		return err == nil && info.Mode().IsRegular()
	})
	if err != nil {
		return fmt.Errorf("%s/grub.cfg: %w", grub, err)
	}
	err = keepTimes(root, func() error { return arm(ctx, root, grub, text, files) })
	if err != nil {
		return errors.Join(err, keepTimes(root, func() error { return disarm(root) }))
	}
	return nil
}

// arm puts everything in place, GRUB's text last.
func arm(ctx context.Context, root *os.Root, grub, text string, files []string) error {
	if err := root.Mkdir(Dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for _, name := range files {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := copyFile(root, "boot/"+name, path.Join(Dir, name)); err != nil {
			return err
		}
	}
	menu := path.Join(grub, customName)
	switch old, err := root.ReadFile(menu); {
	case err == nil && !strings.HasPrefix(string(old), mark):
		if err := save(root, menu); err != nil {
			return err
		}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := checkpoint(root, Dir, "boot"); err != nil {
		return err
	}
	if err := writeFile(root, menu, strings.NewReader(text), 0o644); err != nil {
		return err
	}
	return checkpoint(root, grub)
}

// save keeps the user's custom.cfg.
func save(root *os.Root, menu string) error {
	kept := path.Join(Dir, customName)
	if err := root.Remove(kept); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if root.Link(menu, kept) == nil {
		return nil
	}
	return copyFile(root, menu, kept) // a file system without hard links
}

// keepTimes runs change and then gives the directories that it writes in the
// times from before: an upgrade compares them too.
func keepTimes(root *os.Root, change func() error) error {
	times := map[string]time.Time{}
	for _, dir := range append(grubs(root), path.Dir(Dir)) {
		if info, err := root.Stat(dir); err == nil {
			times[dir] = info.ModTime()
		}
	}
	err := change()
	for dir, at := range times {
		err = errors.Join(err, root.Chtimes(dir, time.Time{}, at))
	}
	return err
}

const (
	customName = "custom.cfg"
	partName   = ".edeploy-part" // a file that is being written
)

// Disarm takes everything back that Arm did, also half of it, and also what a
// process did that died. It does nothing when nothing is armed.
func (g Guard) Disarm(context.Context) error {
	root, err := os.OpenRoot(g.root())
	if err != nil {
		return err
	}
	defer root.Close()
	return keepTimes(root, func() error { return disarm(root) })
}

func disarm(root *os.Root) error {
	for _, grub := range grubs(root) {
		if err := restore(root, grub); err != nil {
			return err
		}
	}
	if _, err := root.Lstat(Dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := root.RemoveAll(Dir); err != nil {
		return err
	}
	return checkpoint(root, "boot")
}

// restore brings the user's custom.cfg back, or removes ours.
func restore(root *os.Root, grub string) error {
	if err := root.Remove(path.Join(grub, partName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	menu := path.Join(grub, customName)
	text, err := root.ReadFile(menu)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || !strings.HasPrefix(string(text), mark) {
		return err
	}
	err = root.Rename(path.Join(Dir, customName), menu)
	if errors.Is(err, fs.ErrNotExist) {
		err = root.Remove(menu)
	}
	if err != nil {
		return err
	}
	return checkpoint(root, grub)
}

func readConfig(root *os.Root) (grub, config string, err error) {
	for _, grub := range grubs(root) {
		text, err := root.ReadFile(path.Join(grub, "grub.cfg"))
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return grub, string(text), err
		}
	}
	return "", "", fs.ErrNotExist
}

// copyFile copies content, mode and owner. It is no hard link: the upgrade
// must find the kernel as it planned with it, and may change it in place.
func copyFile(root *os.Root, from, to string) error {
	in, err := root.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	return writeFile(root, to, in, info.Mode().Perm())
}

func writeFile(root *os.Root, name string, content io.Reader, mode fs.FileMode) error {
	part := path.Join(path.Dir(name), partName)
	f, err := root.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = root.Rename(part, name)
	}
	if err != nil {
		root.Remove(part)
		return fmt.Errorf("write %s: %w", filepath.Join(root.Name(), name), err)
	}
	return nil
}

func runningRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}
