package bootguard

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ext4Checkpoint is EXT4_IOC_CHECKPOINT, _IOW('f', 43, __u32) (linux/fs/ext4/ext4.h, since 5.14).
const ext4Checkpoint = 0x4004662b

// checkpoint brings directories, and all that was written on their file systems,
// to where GRUB finds it. A sync is not enough on ext4: it writes the journal,
// which GRUB does not read; only a checkpoint brings the journal's content to
// its place.
func checkpoint(root *os.Root, dirs ...string) error {
	for _, name := range dirs {
		d, err := root.Open(name)
		if err != nil {
			return err
		}
		err = checkpointDir(d)
		d.Close()
		if err != nil {
			return fmt.Errorf("write %s to the disk: %w", name, err)
		}
	}
	return nil
}

func checkpointDir(d *os.File) error {
	if err := d.Sync(); err != nil {
		return err
	}
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return err
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(d.Fd()), &fs); err != nil || fs.Type != unix.EXT4_SUPER_MAGIC {
		return err
	}
	var flags uint32
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, d.Fd(), ext4Checkpoint, uintptr(unsafe.Pointer(&flags)))
	switch {
	case errno == 0, errno == unix.ENOTTY, errno == unix.EOPNOTSUPP, errors.Is(errno, unix.EPERM):
		return nil // an older kernel, ext2 or ext3 without a journal, or not root: nothing better is to be had
	case errno == unix.ENODEV, errno == unix.EINVAL:
		return nil // no journal
	}
	return errno
}
