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
	return runTool(context.Background(), "qemu-img", "create", "-q", "-f", "qcow2", "-F", formatOf(base), "-b", base, path)
}

// Flatten writes a disk, such as an overlay, as a raw one that needs no other
// file.
func Flatten(from, to string) error {
	return runTool(context.Background(), "qemu-img", "convert", "-f", formatOf(from), "-O", "raw", from, to)
}

// Populate makes a partition of a raw disk an ext4 file system that holds the
// content of a directory. It keeps what dir's file system keeps, so dir is
// best made by root; times are cut to the second.
func Populate(ctx context.Context, disk string, partition int, label, dir string) error {
	start, size, err := partitionRange(disk, partition)
	if err != nil {
		return fmt.Errorf("populate partition %d of %s: %w", partition, disk, err)
	}
	return runTool(ctx, "mke2fs", "-q", "-F", "-t", "ext4", "-L", label, "-m", "1",
		"-E", fmt.Sprintf("offset=%d,root_owner=0:0", start), "-d", dir, disk, fmt.Sprintf("%dk", size/1024))
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

// volume is a file system on a disk of a machine that is off, read without
// mounting it.
type volume struct {
	debugfs string // the program
	device  string // debugfs's name of it: the disk and where the file system starts
}

// maxLinks is how many symbolic links are followed.
const maxLinks = 8

// read reads a file.
func (v volume) read(name string) ([]byte, error) {
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
func (v volume) ask(request, name string) ([]byte, error) {
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
// partition. A file that is not there is fs.ErrNotExist. A journal is not
// replayed: after a power cut the newest changes are not seen. An overlay is
// copied first.
func ReadFile(disk string, partition int, name string) (content []byte, err error) {
	debugfs, err := findTool("debugfs")
	if err != nil {
		return nil, err
	}
	if formatOf(disk) != "raw" {
		scratch, err := os.MkdirTemp(filepath.Dir(disk), filepath.Base(disk)+".")
		if err != nil {
			return nil, fmt.Errorf("copy disk: %w", err)
		}
		defer os.RemoveAll(scratch)
		raw := filepath.Join(scratch, "raw")
		if err := Flatten(disk, raw); err != nil {
			return nil, err
		}
		disk = raw
	}
	var start int64
	if partition > 0 {
		if start, _, err = partitionRange(disk, partition); err != nil {
			return nil, fmt.Errorf("open partition %d of %s: %w", partition, disk, err)
		}
	}
	return volume{debugfs, fmt.Sprintf("%s?offset=%d", disk, start)}.read(name)
}
