package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// BlankDisk makes an empty raw disk of this many bytes, a sparse file that
// replaces what was there.
func BlankDisk(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("make blank disk: %w", err)
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return fmt.Errorf("make blank disk: %w", err)
	}
	return nil
}

// Overlay makes path a disk that starts as base and keeps its own changes, in
// qcow2 format; base must not change as long as path is used, so stories share
// one installed machine. Path must end in .qcow2; base is raw, or itself an
// overlay.
func Overlay(base, path string) error {
	if filepath.Ext(path) != ".qcow2" {
		return fmt.Errorf("make overlay %s: want a name that ends in .qcow2", path)
	}
	base, err := filepath.Abs(base)
	if err != nil {
		return fmt.Errorf("make overlay %s: %w", path, err)
	}
	if err := runTool(context.Background(), "qemu-img", "create", "-q", "-f", "qcow2", "-F", formatOf(base), "-b", base, path); err != nil {
		return fmt.Errorf("make overlay %s: %w", path, err)
	}
	return nil
}

// Flatten writes a disk, such as an overlay, as a raw one that needs no other
// file.
func Flatten(from, to string) error {
	if err := runTool(context.Background(), "qemu-img", "convert", "-f", formatOf(from), "-O", "raw", from, to); err != nil {
		return fmt.Errorf("flatten disk %s: %w", from, err)
	}
	return nil
}

// Populate makes a partition of a raw disk an ext4 file system that holds the
// content of a directory. It keeps what dir's file system keeps, so dir is
// best made by root; times are cut to the second.
func Populate(ctx context.Context, disk string, partition int, label, dir string) error {
	start, size, err := partitionRange(disk, partition)
	if err != nil {
		return fmt.Errorf("populate partition %d of %s: %w", partition, disk, err)
	}
	if err := runTool(ctx, "mke2fs", "-q", "-F", "-t", "ext4", "-L", label, "-m", "1",
		"-E", fmt.Sprintf("offset=%d,root_owner=0:0", start), "-d", dir, disk, fmt.Sprintf("%dk", size/1024)); err != nil {
		return fmt.Errorf("populate partition %d of %s: %w", partition, disk, err)
	}
	return nil
}

// Clone copies a raw disk, its holes stay holes.
func Clone(ctx context.Context, from, to string) error {
	return runTool(ctx, "cp", "--reflink=auto", "--sparse=always", from, to)
}

func runTool(ctx context.Context, name string, args ...string) error {
	tool, err := findTool(name)
	if err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, tool, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// volume is an ext2, ext3 or ext4 file system on a disk of a machine that is
// off, read without mounting it.
//
// A journal is not replayed: after a power cut the newest changes are not seen.
type volume struct {
	device  string // debugfs's name of it: the disk and where the file system starts
	debugfs string
	scratch string // a copy to remove, or ""
}

// openVolume opens a partition, counted from 1; 0 is a disk without a
// partition table. An overlay is copied first.
func openVolume(disk string, partition int) (*volume, error) {
	debugfs, err := findTool("debugfs")
	if err != nil {
		return nil, err
	}
	v := &volume{debugfs: debugfs}
	if formatOf(disk) != "raw" {
		if v.scratch, err = flattened(disk); err != nil {
			return nil, err
		}
		disk = v.scratch
	}
	start, err := partitionStart(disk, partition)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open partition %d of %s: %w", partition, disk, err), v.close())
	}
	v.device = fmt.Sprintf("%s?offset=%d", disk, start)
	return v, nil
}

// flattened is a raw copy beside the disk.
func flattened(disk string) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(disk), filepath.Base(disk)+".*.raw")
	if err != nil {
		return "", fmt.Errorf("copy disk: %w", err)
	}
	f.Close()
	if err := Flatten(disk, f.Name()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// partitionStart is the byte where a partition starts; 0 is the whole disk.
func partitionStart(disk string, partition int) (int64, error) {
	if partition == 0 {
		return 0, nil
	}
	start, _, err := partitionRange(disk, partition)
	return start, err
}

// partitionRange is where a partition starts and how long it is, in bytes;
// partx reads every kind of table and numbers partitions as the kernel does.
func partitionRange(disk string, partition int) (start, size int64, err error) {
	partx, err := findTool("partx")
	if err != nil {
		return 0, 0, err
	}
	out, err := exec.Command(partx, "--show", "--noheadings", "--output", "START,SECTORS",
		"--nr", strconv.Itoa(partition), disk).CombinedOutput()
	if _, parse := fmt.Sscan(string(out), &start, &size); err != nil || parse != nil {
		return 0, 0, fmt.Errorf("find it with partx: %w: %s", fs.ErrNotExist, firstLine(string(out)))
	}
	return start * 512, size * 512, nil
}

// close removes the copy of an overlay.
func (v *volume) close() error {
	if v.scratch == "" {
		return nil
	}
	return os.Remove(v.scratch)
}

// maxLinks is how many symbolic links are followed.
const maxLinks = 8

// read reads a file.
func (v *volume) read(name string) ([]byte, error) {
	at := path.Join("/", name)
	for range maxLinks {
		stat, err := v.ask("stat", at)
		if err != nil {
			return nil, fmt.Errorf("read %s on %s: %w", name, v.device, err)
		}
		target, ok := linkTarget(string(stat))
		if !ok {
			content, err := v.ask("cat", at)
			if err != nil {
				return nil, fmt.Errorf("read %s on %s: %w", name, v.device, err)
			}
			return content, nil
		}
		if !path.IsAbs(target) {
			target = path.Join(path.Dir(at), target)
		}
		at = target
	}
	return nil, fmt.Errorf("read %s on %s: more than %d symbolic links", name, v.device, maxLinks)
}

// linkTarget reads the target out of debugfs's answer to stat.
func linkTarget(stat string) (string, bool) {
	if !strings.Contains(stat, "Type: symlink") {
		return "", false
	}
	_, rest, ok := strings.Cut(stat, `link dest: "`)
	target, _, end := strings.Cut(rest, "\"\n")
	return target, ok && end
}

// ask runs one request of debugfs on a path. It exits 0 whatever happens;
// what it says beside its banner is the error.
func (v *volume) ask(request, name string) ([]byte, error) {
	if strings.ContainsAny(name, "\"\n") {
		return nil, fmt.Errorf("%q cannot be asked for: %w", name, fs.ErrInvalid)
	}
	cmd := exec.Command(v.debugfs, "-R", request+` "`+name+`"`, v.device)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("debugfs: %w: %s", err, bytes.TrimSpace(complaint.Bytes()))
	}
	banner, said, _ := strings.Cut(strings.TrimSpace(complaint.String()), "\n")
	if !strings.HasPrefix(banner, "debugfs ") {
		said = banner
	}
	switch {
	case strings.Contains(said, "File not found"):
		return nil, fs.ErrNotExist
	case said != "":
		return nil, fmt.Errorf("debugfs: %s", said)
	}
	return out.Bytes(), nil
}

// ReadFile reads one file from an ext2, ext3 or ext4 partition (0: the whole disk)
// of a disk whose machine is off; symbolic links are followed within the
// partition. A file that is not there is fs.ErrNotExist.
func ReadFile(disk string, partition int, name string) ([]byte, error) {
	v, err := openVolume(disk, partition)
	if err != nil {
		return nil, err
	}
	content, err := v.read(name)
	return content, errors.Join(err, v.close())
}
