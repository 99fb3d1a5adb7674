package installed

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"edeploy/agent/internal/transaction"
	"edeploy/images/manifest"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Boot is the /boot that the machine's fstab names; ok tells whether it is a
// file system of its own.
func (m Machine) Boot() (boot transaction.FileSystem, ok bool, err error) {
	text, err := os.ReadFile(m.Path("etc/fstab"))
	if errors.Is(err, fs.ErrNotExist) {
		return boot, false, nil
	}
	boot, ok = transaction.InFstab(string(text), "boot")
	return boot, ok, err
}

const deviceTime = 20 * time.Second

// Mount mounts those of the file systems that are not, outer ones first as
// they are given. The result undoes it.
func (m Machine) Mount(ctx context.Context, wanted []transaction.FileSystem) (unmount func() error, err error) {
	var done []string
	unmount = func() error {
		var errs []error
		for len(done) > 0 {
			at := done[len(done)-1]
			done = done[:len(done)-1]
			if err := unix.Unmount(at, 0); err != nil {
				errs = append(errs, fmt.Errorf("unmount %s: %w", at, err))
			}
		}
		return errors.Join(errs...)
	}
	for _, f := range wanted {
		at := m.at(f.Path)
		if mounted, err := mountinfo.Mounted(at); err == nil && mounted {
			continue
		}
		if err := mount(ctx, f, at); err != nil {
			return nil, errors.Join(err, unmount())
		}
		done = append(done, at)
	}
	return unmount, nil
}

func mount(ctx context.Context, f transaction.FileSystem, at string) error {
	device, err := device(f.Source)
	if err == nil {
		err = appears(ctx, device)
	}
	if err == nil {
		err = unix.Mount(device, at, f.Type, 0, "")
	}
	if err != nil {
		return fmt.Errorf("mount %s on %s: %w", f.Source, at, err)
	}
	return nil
}

// device is where udev shows what an fstab names.
func device(source string) (string, error) {
	name, err := manifest.Unescape(source)
	if err != nil {
		return "", err
	}
	for tag, dir := range map[string]string{"UUID": "by-uuid", "LABEL": "by-label", "PARTUUID": "by-partuuid", "PARTLABEL": "by-partlabel"} {
		if value, ok := strings.CutPrefix(name, tag+"="); ok {
			return filepath.Join("/dev/disk", dir, strings.Trim(value, `"`)), nil
		}
	}
	return name, nil
}

func appears(ctx context.Context, device string) error {
	ctx, cancel := context.WithTimeout(ctx, deviceTime)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := os.Stat(device)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}
