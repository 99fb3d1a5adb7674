package transaction

import (
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// room is what a file system has, or what is needed of it.
type room struct{ bytes, inodes int64 }

const blockBytes = 4096

// checkSpace tells, before anything is staged, that every file system has
// enough room for it and 5% more.
func (s *staging) checkSpace() error {
	need := make([]room, len(s.j.FileSystems))
	for _, list := range [][]*stagedNode{s.dirs, s.special} {
		for _, p := range list {
			need[p.fs].bytes += blockBytes
			need[p.fs].inodes++
		}
	}
	for _, files := range s.files {
		for i, p := range files {
			if i < len(s.pool.left[p.entry.SHA256]) {
				continue
			}
			need[p.fs].bytes += (p.entry.Size + blockBytes - 1) / blockBytes * blockBytes
			need[p.fs].inodes++
		}
	}
	for i, n := range need {
		mount := string(s.j.FileSystems[i].Mount)
		free, err := s.disk.free(mount)
		if err != nil {
			return err
		}
		if n.bytes += n.bytes / 20; n.bytes > free.bytes || n.inodes > free.inodes {
			return fmt.Errorf("%s: %w: the upgrade needs %s and %d inodes, %s and %d inodes are free", s.disk.name(mount), ErrSpace,
				megabytes(n.bytes), n.inodes, megabytes(free.bytes), free.inodes)
		}
	}
	return nil
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// free is the room on the file system at a path. Some have no fixed number of
// inodes, and say 0.
func (d *disk) free(path string) (room, error) {
	fd, err := d.open(path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return room{}, err
	}
	defer unix.Close(fd)
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return room{}, d.fail("statfs", path, err)
	}
	r := room{int64(st.Bavail) * st.Bsize, int64(st.Ffree)}
	if st.Files == 0 {
		r.inodes = math.MaxInt64
	}
	return r, nil
}
