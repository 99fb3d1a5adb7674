package transaction

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const lockPath = Dir + "/lock"

// lock takes the machine's lock, which ends with the process or by Close.
func (d *disk) lock() (*os.File, error) {
	fd, err := d.open(lockPath, unix.O_RDWR)
	if isAbsent(err) {
		var f *os.File
		if f, err = d.create(lockPath); err == nil {
			return f, d.take(f)
		}
		if !errors.Is(err, unix.EEXIST) {
			return nil, err
		}
		fd, err = d.open(lockPath, unix.O_RDWR)
	}
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), d.name(lockPath))
	return f, d.take(f)
}

func (d *disk) take(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		pid := make([]byte, 20)
		n, _ := f.ReadAt(pid, 0)
		f.Close()
		return fmt.Errorf("%w: process %s holds %s", ErrBusy, strings.TrimSpace(string(pid[:n])), d.name(lockPath))
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		f.Close()
		return d.fail("lock", lockPath, err)
	}
	return nil
}

// holder is the process that holds the lock, 0 when none does (proc_locks(5)).
func (d *disk) holder() int {
	st, err := d.lookup(lockPath)
	locks, readErr := os.ReadFile("/proc/locks")
	if st == nil || err != nil || readErr != nil {
		return 0
	}
	file := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	for line := range strings.Lines(string(locks)) {
		words := strings.Fields(line)
		if len(words) >= 6 && words[1] == "FLOCK" && words[5] == file {
			pid, _ := strconv.Atoi(words[4])
			return pid
		}
	}
	return 0
}
