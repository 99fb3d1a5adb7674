package transaction

import (
	"context"
	"crypto/sha256"
	"io"
	"path"
	"slices"
	"strconv"
	"sync"

	"edeploy/images/manifest"

	"golang.org/x/sys/unix"
)

// pool is content that is already here.
type pool struct {
	local map[[32]byte][]string // paths to copy from

	mu   sync.Mutex
	left map[[32]byte][]leftover
}

// leftover is a file that an interrupted attempt staged.
type leftover struct {
	path string
	fs   int
}

func (p *pool) claim(sum [32]byte, fs int) (path string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, l := range p.left[sum] {
		if l.fs == fs {
			p.left[sum] = slices.Delete(slices.Clone(p.left[sum]), i, i+1)
			return l.path, true
		}
	}
	return "", false
}

// findContent finds what the files need: on the disk, in the slots of the kept
// transaction, and among what interrupted attempts staged.
func (s *staging) findContent(ctx context.Context, kept *journal) error {
	s.pool = &pool{local: map[[32]byte][]string{}, left: map[[32]byte][]leftover{}}
	sizes := map[int64]bool{}
	needed := map[[32]byte]bool{}
	for _, files := range s.files {
		if e := files[0].entry; e.Size > 0 {
			sizes[e.Size], needed[e.SHA256] = true, true
		}
	}
	for i := range s.u.Disk.Entries {
		e := &s.u.Disk.Entries[i]
		if e.Type == manifest.File && needed[e.SHA256] && len(s.pool.local[e.SHA256]) < 2 {
			s.pool.local[e.SHA256] = append(s.pool.local[e.SHA256], e.Path)
		}
	}
	keptNumber := 0
	if kept != nil {
		keptNumber = kept.Number
		for i := range kept.Units {
			u := &kept.Units[i]
			if u.Old != nil && len(u.Old.SHA256) == 32 && needed[[32]byte(u.Old.SHA256)] {
				sum := [32]byte(u.Old.SHA256)
				s.pool.local[sum] = append(s.pool.local[sum], kept.oldSlot(u))
			}
		}
	}
	for i, fs := range s.j.FileSystems {
		numbers, err := s.disk.numbers(string(fs.Mount))
		if err != nil {
			return err
		}
		for _, n := range numbers {
			if n == keptNumber || n == s.j.Number {
				continue
			}
			if err := s.findLeft(ctx, slots(string(fs.Mount), n), i, sizes, needed); err != nil {
				return err
			}
		}
	}
	return nil
}

// findLeft looks for staged files. They are hashed anew, because nobody knows
// how much of them was on the disk when the power went.
func (s *staging) findLeft(ctx context.Context, dir string, fs int, sizes map[int64]bool, needed map[[32]byte]bool) error {
	names, err := s.disk.names(dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		p := path.Join(dir, n)
		st, err := s.disk.stat(p)
		if err != nil {
			return err
		}
		switch {
		case isDir(st):
			err = s.findLeft(ctx, p, fs, sizes, needed)
		case st.Mode&unix.S_IFMT == unix.S_IFREG && st.Nlink == 1 && sizes[st.Size]:
			var sum [32]byte
			if sum, err = s.disk.hash(p); err == nil && needed[sum] {
				s.pool.left[sum] = append(s.pool.left[sum], leftover{p, fs})
			}
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *disk) hash(path string) (sum [32]byte, err error) {
	f, err := d.read(path)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return sum, err
	}
	hash.Sum(sum[:0])
	return sum, nil
}

// numbers are the transactions that have a directory on a file system.
func (d *disk) numbers(mount string) ([]int, error) {
	names, err := d.names(path.Join(mount, Dir))
	if isAbsent(err) {
		return nil, nil
	}
	var numbers []int
	for _, name := range names {
		if n, err := strconv.Atoi(name); err == nil && n > 0 && strconv.Itoa(n) == name {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, err
}
