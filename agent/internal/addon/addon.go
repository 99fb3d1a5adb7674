// Package addon lays add-ons over the agent's ramdisk: trees of files that hold
// what its initrd lacks, such as Python, or the tools of a RAID controller's
// maker. They come from the appliance as archives with their manifests.
package addon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"edeploy/agent/internal/source"
	"edeploy/images/manifest"
	"edeploy/server/wire"
)

// Ramdisk is what add-ons are laid over, and where they come from. All fields
// are needed, Log of Transfer too.
type Ramdisk struct {
	source.Transfer
	Args   wire.BootArgs
	Root   string
	Memory func() (free int64, err error) // in bytes
}

// Lay fetches an add-on and lays it over the ramdisk, whole or not at all. A
// server that is away is waited for. An add-on that the server has not, that is
// not what its manifest says, or that is too large for the machine is an error.
func (r Ramdisk) Lay(ctx context.Context, name string) error {
	if err := r.lay(ctx, name); err != nil {
		return fmt.Errorf("add-on %s: %w", name, err)
	}
	return nil
}

// staging is where an add-on is until it is complete: in the ramdisk's own file
// system, so that its files can be moved.
const staging = ".addon"

func (r Ramdisk) lay(ctx context.Context, name string) error {
	dir := filepath.Join(r.Root, staging)
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	accept := func(m *manifest.Manifest, url string) error {
		if err := r.accept(m); err != nil {
			return err
		}
		r.Log.Info(fmt.Sprintf("add-on %s: %d MB, from %s", name, m.TotalBytes()/1e6, url))
		return nil
	}
	got, err := r.Tree(ctx, source.Target{Dir: dir, Proven: true, Accept: accept}, r.Args.AddonURL(name))
	switch {
	case errors.Is(err, source.ErrMissing) && strings.Contains(name, "/"):
		return fmt.Errorf("%w: push this image (edeployctl push), or take it out of [BOOT] ADDONS", err)
	case errors.Is(err, source.ErrMissing):
		return fmt.Errorf("%w: it comes with the appliance, in the directory addons of [BOOT] DIR (make image leaves it in out/boot)", err)
	case err != nil:
		return err
	}
	return move(r.Root, got.Manifest)
}

// directories are what an add-on has files in: what the agent and the kernel
// have in others is theirs.
var directories = []string{"bin", "etc", "lib", "lib64", "opt", "sbin", "usr", "var"}

// entryBytes is about what a path takes in a ramdisk beside its content, which
// fills whole pages.
const entryBytes = 4 << 10

// accept refuses what must not be laid over the ramdisk, or does not fit into
// the machine's memory.
func (r Ramdisk) accept(m *manifest.Manifest) error {
	for i := range m.Entries {
		e := &m.Entries[i]
		top, _, _ := strings.Cut(e.Path, "/")
		if e.Path != "." && !slices.Contains(directories, top) {
			return fmt.Errorf("it has /%s, and may have files below /%s only", manifest.Escape(e.Path), strings.Join(directories, ", /"))
		}
		if e.Type != manifest.Dir && e.Type != manifest.File && e.Type != manifest.Symlink {
			return fmt.Errorf("/%s in it is a %s: it may have files, directories and symbolic links only", manifest.Escape(e.Path), e.Type)
		}
	}
	free, err := r.Memory()
	if err != nil {
		return err
	}
	if need := manifest.AddSizes(m.TotalBytes(), entryBytes*int64(len(m.Entries))); need > free/2 {
		return fmt.Errorf("it takes %d MB of the memory, of which %d MB are free and half is for the installation: give the machine more, or leave things out", need/1e6+1, free/1e6)
	}
	return nil
}

// FreeMemory is how much memory programs can still have, proc(5).
func FreeMemory() (int64, error) {
	const file = "/proc/meminfo"
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "\nMemAvailable:")
	var kib int64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		return 0, fmt.Errorf("%s has no MemAvailable: %w", file, err)
	}
	return kib << 10, nil
}
