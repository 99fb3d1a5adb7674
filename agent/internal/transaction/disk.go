package transaction

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"

	"edeploy/images/manifest"
	"edeploy/images/manifest/fstree"

	"golang.org/x/sys/unix"
)

// disk is the package's door to the kernel. Paths are below the root, with
// slashes, and no name in them is ever followed as a symbolic link.
type disk struct {
	root string
	fd   int
	test hooks
}

// hooks are what tests put between the package and the kernel.
type hooks struct {
	// step is called before every call that changes a disk; when it answers
	// an error the call does not take place. Several goroutines call it.
	step func(operation string) error

	noSync     bool // process death loses nothing that was written
	noExchange bool // as on file systems that cannot exchange two names
}

func openDisk(root string, test *hooks) (*disk, error) {
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: root, Err: err}
	}
	d := &disk{root: root, fd: fd}
	if test != nil {
		d.test = *test
	}
	return d, nil
}

func (d *disk) close() { unix.Close(d.fd) }

// name is a path as the operator knows it.
func (d *disk) name(path string) string { return manifest.Escape(filepath.Join(d.root, path)) }

func (d *disk) fail(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: d.name(path), Err: err}
}

// changing is called before every change of the disk.
func (d *disk) changing(op, path string) error {
	if d.test.step == nil {
		return nil
	}
	return d.test.step(op + " " + path)
}

func (d *disk) open(path string, flags uint64) (int, error) {
	how := unix.OpenHow{Flags: flags | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
	for {
		fd, err := unix.Openat2(d.fd, path, &how)
		// EAGAIN: a name on the way was renamed meanwhile, openat2(2).
		if err == unix.EINTR || err == unix.EAGAIN && flags&unix.O_NONBLOCK == 0 {
			continue
		}
		return fd, d.fail("open", path, err)
	}
}

func (d *disk) parent(p string) (fd int, name string, err error) {
	fd, err = d.open(path.Dir(p), unix.O_PATH|unix.O_DIRECTORY)
	return fd, path.Base(p), err
}

// at calls f with the open directory of a path, before which a change is announced.
func (d *disk) at(op, p string, f func(dir int, name string) error) error {
	if err := d.changing(op, p); err != nil {
		return err
	}
	dir, name, err := d.parent(p)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	return d.fail(op, p, f(dir, name))
}

func isAbsent(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

func (d *disk) stat(path string) (*unix.Stat_t, error) {
	fd, err := d.open(path, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	st := new(unix.Stat_t)
	return st, d.fail("stat", path, unix.Fstat(fd, st))
}

// lookup is stat, with nil when there is nothing.
func (d *disk) lookup(path string) (*unix.Stat_t, error) {
	st, err := d.stat(path)
	if isAbsent(err) {
		return nil, nil
	}
	return st, err
}

// read opens the content of a regular file.
func (d *disk) read(path string) (*os.File, error) {
	fd, err := d.open(path, unix.O_RDONLY|unix.O_NONBLOCK) // no fifo may hold us
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), d.name(path))
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		f.Close()
		return nil, errors.Join(err, d.fail("read", path, errors.New("it is no regular file")))
	}
	return f, nil
}

func (d *disk) names(path string) ([]string, error) {
	fd, err := d.open(path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), d.name(path))
	defer f.Close()
	return f.Readdirnames(-1)
}

func (d *disk) mkdir(path string, mode uint32) error {
	return d.at("mkdir", path, func(dir int, name string) error { return unix.Mkdirat(dir, name, mode) })
}

func (d *disk) symlink(target, path string) error {
	return d.at("symlink", path, func(dir int, name string) error { return unix.Symlinkat(target, dir, name) })
}

func (d *disk) mknod(path string, e *manifest.Entry) error {
	return d.at("mknod", path, func(dir int, name string) error {
		return unix.Mknodat(dir, name, fstree.FormatOf(e.Type)|0o600, int(unix.Mkdev(e.Major, e.Minor)))
	})
}

func (d *disk) link(old, path string) error {
	from, base, err := d.parent(old)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	return d.at("link", path, func(dir int, name string) error { return unix.Linkat(from, base, dir, name, 0) })
}

func (d *disk) create(path string) (*os.File, error) {
	var f *os.File
	err := d.at("create", path, func(dir int, name string) error {
		fd, err := unix.Openat(dir, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err == nil {
			f = os.NewFile(uintptr(fd), d.name(path))
		}
		return err
	})
	return f, err
}

func (d *disk) unlink(path string, flags int) error {
	return d.at("remove", path, func(dir int, name string) error { return unix.Unlinkat(dir, name, flags) })
}

// removeAll removes a path and all below it; nothing there is no error.
func (d *disk) removeAll(p string) error {
	err := d.unlink(p, 0)
	if err == nil || isAbsent(err) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return err
	}
	names, err := d.names(p)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := d.removeAll(path.Join(p, name)); err != nil {
			return err
		}
	}
	return d.unlink(p, unix.AT_REMOVEDIR)
}

func (d *disk) rename(from, to string, flags uint) error {
	dir, base, err := d.parent(from)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	return d.at("rename "+from, to, func(toDir int, name string) error { return unix.Renameat2(dir, base, toDir, name, flags) })
}

// exchange makes two paths change places at once.
func (d *disk) exchange(a, b string) error {
	if d.test.noExchange {
		return d.fail("exchange", a, unix.EINVAL)
	}
	return d.rename(a, b, unix.RENAME_EXCHANGE)
}

// move moves a path to where nothing is.
func (d *disk) move(from, to string) error {
	err := d.rename(from, to, unix.RENAME_NOREPLACE)
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	// Some file systems know no RENAME_NOREPLACE.
	switch st, err := d.lookup(to); {
	case err != nil:
		return err
	case st != nil:
		return d.fail("rename "+from, to, unix.EEXIST)
	}
	return d.rename(from, to, 0)
}

// sync writes all of the file system at path to the disk.
func (d *disk) sync(path string) error {
	if d.test.noSync {
		return nil
	}
	fd, err := d.open(path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return d.fail("sync", path, unix.Syncfs(fd))
}

// write makes a small file, whole and durable.
func (d *disk) write(p string, content []byte) error {
	fresh := p + ".new"
	if err := d.unlink(fresh, 0); err != nil && !isAbsent(err) {
		return err
	}
	f, err := d.create(fresh)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		return err
	}
	if err := d.fsync(f); err != nil {
		return err
	}
	if err := d.rename(fresh, p, 0); err != nil {
		return err
	}
	fd, err := d.open(path.Dir(p), unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	dir := os.NewFile(uintptr(fd), d.name(path.Dir(p)))
	defer dir.Close()
	return d.fsync(dir)
}

func (d *disk) fsync(f *os.File) error {
	if d.test.noSync {
		return nil
	}
	return f.Sync()
}

// readFile is the content of a small file, at most limit bytes.
func (d *disk) readFile(path string, limit int64) ([]byte, error) {
	f, err := d.read(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = d.fail("read", path, errors.New("it is longer than "+strconv.FormatInt(limit, 10)+" bytes"))
	}
	return text, err
}
