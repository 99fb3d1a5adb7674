// Package image packs the appliance: a gokrazy image with the daemon, the
// agent's kernel and initrd, the loaders, and a /perm file system that is
// there on the first boot of a freshly flashed stick.
//
// The disk has a GPT with a hybrid MBR, so that it boots on BIOS and UEFI:
//
//	1  boot    100 MB  FAT       kernel, boot loader
//	2  root A  500 MB  squashfs  the running system
//	3  root B  500 MB  squashfs  the system an update puts beside it
//	4  perm    rest    ext4      configuration, state, trees
package image

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/diskfs/go-diskfs"
	"github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/gokrazy/tools/gok"
	"golang.org/x/mod/modfile"
)

const (
	daemon = "edeploy/appliance/cmd/edeployd"
	// permPartition counts from 1, as the table above.
	permPartition = 4
	// MinSize holds the three system partitions and 64 MiB of /perm.
	MinSize = 1<<30 + 256<<20
)

// Spec says what goes into the image.
type Spec struct {
	Module  string    // directory of the module's go.mod, which pins every version
	WorkDir string    // gokrazy instance, kept between builds
	BootDir string    // vmlinuz, initrd.pxe, loaders: /usr/lib/edeploy/boot
	PermDir string    // first content of /perm
	Version string    // stamped into the daemon
	Size    int64     // of the whole image, bytes; the file is sparse
	Output  io.Writer // what the builders say
}

// Build writes the image, and the update archive (boot and root file systems
// without /perm, in gokrazy's archive format) when update is not empty. Each
// file appears whole or not at all.
func Build(ctx context.Context, s Spec, img, update string) error {
	if s.Size < MinSize {
		return fmt.Errorf("build %s: %d bytes are too small, want at least %d", img, s.Size, int64(MinSize))
	}
	// gok changes the working directory of the process.
	for _, path := range []*string{&s.Module, &s.WorkDir, &s.BootDir, &s.PermDir, &img, &update} {
		if *path == "" {
			continue
		}
		var err error
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	if err := s.build(ctx, img, update); err != nil {
		return fmt.Errorf("build %s: %w", img, err)
	}
	return nil
}

func (s Spec) build(ctx context.Context, img, update string) error {
	if err := s.writeInstance(); err != nil {
		return err
	}
	partial := img + ".partial"
	defer os.Remove(partial)
	os.Remove(partial) // the packer would keep the old content of the gaps
	if err := s.gok(ctx, "overwrite", "--full", partial, "--target_storage_bytes", fmt.Sprint(s.Size)); err != nil {
		return err
	}
	if err := s.makePerm(ctx, partial); err != nil {
		return err
	}
	if update != "" {
		if err := s.gok(ctx, "overwrite", "--full", "", "--gaf", update); err != nil {
			return err
		}
	}
	return os.Rename(partial, img)
}

func (s Spec) instanceDir() string { return filepath.Join(s.WorkDir, "edeploy") }

func (s Spec) gok(ctx context.Context, args ...string) error {
	args = append(args, "--parent_dir", s.WorkDir, "--instance", "edeploy")
	c := gok.Context{Args: args, Stdout: s.Output, Stderr: s.Output}
	return c.Execute(ctx)
}

// writeInstance writes config.json and the build directory of the gokrazy
// instance.
func (s Spec) writeInstance() error {
	dir := s.instanceDir()
	if err := os.MkdirAll(filepath.Join(dir, "builddir"), 0o755); err != nil {
		return err
	}
	text, err := json.MarshalIndent(s.config(), "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), text, 0o644); err != nil {
		return err
	}
	return s.writeBuildModule(filepath.Join(dir, "builddir"))
}

// instance and packageConfig are the parts of gokrazy's config.json that we
// set (https://gokrazy.org/userguide/instance-config/); gokrazy's own type is
// in a package that only gokrazy may import.
type instance struct {
	Hostname        string
	Environment     []string
	Update          map[string]any
	Packages        []string
	GokrazyPackages []string
	KernelPackage   string
	FirmwarePackage string
	EEPROMPackage   string
	SerialConsole   string
	KernelExtraArgs []string
	PackageConfig   map[string]packageConfig
}

type packageConfig struct {
	CommandLineFlags []string
	GoBuildFlags     []string
	ExtraFilePaths   map[string]string
}

func (s Spec) config() instance {
	return instance{
		Hostname:    "edeploy",
		Environment: []string{"GOOS=linux", "GOARCH=amd64"},
		// NoPassword: gokrazy's own page answers on the appliance itself only.
		Update:          map[string]any{"NoPassword": true, "HTTPPort": "8181"},
		Packages:        []string{daemon},
		GokrazyPackages: []string{"github.com/gokrazy/gokrazy/cmd/randomd"},
		KernelPackage:   "github.com/gokrazy/kernel.amd64",
		SerialConsole:   "ttyS0,115200",
		// The kernel package's rootdelay=10 would be paid at every boot.
		KernelExtraArgs: []string{"rootdelay=0", "rootwait"},
		PackageConfig: map[string]packageConfig{daemon: {
			CommandLineFlags: []string{"-config=/perm/edeploy/edeploy.conf", "-console=/dev/console"},
			GoBuildFlags:     []string{"-trimpath", "-ldflags=-s -w -X edeploy/server/wire.release=" + s.Version},
			ExtraFilePaths:   map[string]string{"/usr/lib/edeploy/boot": s.BootDir},
		}},
	}
}

// writeBuildModule makes a module that requires this one and repeats its
// versions and checksums, so that every program in the image is built from
// the one go.mod; building inside the module itself would let the go command
// change that file.
func (s Spec) writeBuildModule(dir string) error {
	text, err := os.ReadFile(filepath.Join(s.Module, "go.mod"))
	if err != nil {
		return err
	}
	f, err := modfile.Parse("go.mod", text, nil)
	if err != nil {
		return err
	}
	self := f.Module.Mod.Path
	for _, tool := range f.Tool {
		if err := f.DropTool(tool.Path); err != nil {
			return err
		}
	}
	for _, step := range []error{
		f.AddModuleStmt("gokrazy/build/edeploy"),
		f.AddRequire(self, "v0.0.0"),
		f.AddReplace(self, "", s.Module, ""),
	} {
		if step != nil {
			return step
		}
	}
	f.Cleanup()
	out, err := f.Format()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), out, 0o644); err != nil {
		return err
	}
	sums, err := os.ReadFile(filepath.Join(s.Module, "go.sum"))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "go.sum"), sums, 0o644)
}

// makePerm makes the ext4 file system of the perm partition, with its first
// content, without root rights.
func (s Spec) makePerm(ctx context.Context, img string) error {
	offset, size, err := permRange(img)
	if err != nil {
		return err
	}
	mke2fs, err := exec.LookPath("mke2fs")
	if err != nil {
		if mke2fs, err = exec.LookPath("/sbin/mke2fs"); err != nil {
			return fmt.Errorf("mke2fs is missing: install the package e2fsprogs (make deps)")
		}
	}
	cmd := exec.CommandContext(ctx, mke2fs, "-q", "-F", "-t", "ext4", "-L", "perm", "-m", "1",
		"-E", fmt.Sprintf("offset=%d,root_owner=0:0", offset),
		"-d", s.PermDir, img, fmt.Sprintf("%dk", size/1024))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}

func permRange(img string) (offset, size int64, err error) {
	d, err := diskfs.Open(img, diskfs.WithOpenMode(diskfs.ReadOnly))
	if err != nil {
		return 0, 0, fmt.Errorf("open %s: %w", img, err)
	}
	defer d.Close()
	table, err := d.GetPartitionTable()
	if err != nil {
		return 0, 0, fmt.Errorf("read partition table of %s: %w", img, err)
	}
	g, ok := table.(*gpt.Table)
	if !ok || len(g.Partitions) < permPartition {
		return 0, 0, fmt.Errorf("%s has no GPT with %d partitions", img, permPartition)
	}
	p := g.Partitions[permPartition-1]
	return p.GetStart(), p.GetSize(), nil
}
