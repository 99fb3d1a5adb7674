package machine

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const (
	kernelFS = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	userFS   = unix.MS_NOSUID | unix.MS_NODEV
)

type mount struct {
	kind, target string
	flags        uintptr
	data         string
	after        []string // directories made once it is there
	optional     bool     // not every kernel or firmware has it
}

var mounts = []mount{
	{kind: "proc", target: "/proc", flags: kernelFS, after: []string{"/etc", "/root", "/var"}},
	{kind: "sysfs", target: "/sys", flags: kernelFS},
	{kind: "devtmpfs", target: "/dev", flags: unix.MS_NOSUID, data: "mode=0755", after: []string{"/dev/shm"}},
	{kind: "devpts", target: "/dev/pts", flags: unix.MS_NOSUID | unix.MS_NOEXEC, data: "gid=5,mode=0620,ptmxmode=0666"},
	{kind: "tmpfs", target: "/dev/shm", flags: userFS},
	// 20 % of the memory, as in reference section 2.1.
	{kind: "tmpfs", target: "/run", flags: userFS, data: "mode=0755,size=20%",
		after: []string{"/run/lock", "/run/lvm", "/run/lock/lvm", "/run/mdadm", "/run/blkid"}},
	{kind: "tmpfs", target: "/tmp", flags: userFS, data: "mode=1777"},
	// Boot entries of UEFI machines.
	{kind: "efivarfs", target: "/sys/firmware/efi/efivars", flags: kernelFS, optional: true},
}

// ensure mounts m unless something of its kind is there.
func (m mount) ensure() error {
	if m.optional {
		if _, err := os.Stat(m.target); err != nil {
			return nil
		}
	}
	if err := m.mount(); err != nil && !m.optional {
		return err
	}
	for _, dir := range m.after {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make directory %s: %w", dir, err)
		}
	}
	return nil
}

func (m mount) mount() error {
	if !m.optional {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return fmt.Errorf("make directory %s: %w", m.target, err)
		}
	}
	if is, err := isMountPoint(m.target); err != nil || is {
		return err
	}
	err := unix.Mount(m.kind, m.target, m.kind, m.flags, m.data)
	if err != nil && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("mount %s on %s: %w", m.kind, m.target, err)
	}
	return nil
}

// isMountPoint compares devices with the parent directory, which needs no
// /proc.
func isMountPoint(dir string) (bool, error) {
	var here, parent unix.Stat_t
	if err := unix.Stat(dir, &here); err != nil {
		return false, fmt.Errorf("stat %s: %w", dir, err)
	}
	if err := unix.Stat(dir+"/..", &parent); err != nil {
		return false, fmt.Errorf("stat %s/..: %w", dir, err)
	}
	return here.Dev != parent.Dev, nil
}
