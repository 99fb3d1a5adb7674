// Package initrd builds the small system that blank machines are booted into:
// init, the agent, u-root commands, and Debian tools with their libraries.
package initrd

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"edeploy/initrd/internal/archive"
	"edeploy/initrd/internal/compile"
	"edeploy/initrd/internal/pick"
	"edeploy/initrd/internal/tree"
)

//go:embed commands.go
var commands string

//go:embed tools.txt
var toolList string

//go:embed modules.txt
var moduleList string

//go:embed files
var files embed.FS

// Config says what to build from what. All fields but Kernel and Addons are needed.
type Config struct {
	Module string // directory of the Go module with the agent
	Agent  string // package of the agent
	Tools  string // archive of the Debian tree: tar, plain, gzip or zstd
	Kernel Kernel // which kernel goes beside it; empty: Gokrazy

	Initrd  string // file to write
	Vmlinuz string // file to write
	Addons  string // directory to write the add-ons to; "": none are made
}

// Kernel is a kernel variant.
type Kernel string

// The kernel variants.
const (
	Gokrazy Kernel = "gokrazy" // the appliance's own: everything built in, few drivers
	Debian  Kernel = "debian"  // the Debian tree's, with modules
)

// kernelModule is the Go module that carries the gokrazy kernel.
const kernelModule = "github.com/gokrazy/kernel.amd64"

// Build writes the initrd and its kernel, each whole under its final name.
// The same inputs give the same bytes.
func Build(ctx context.Context, c Config) error {
	lines, err := c.wishes()
	if err != nil {
		return err
	}
	debian, err := readTree(c.Tools, c.Kernel == Debian)
	if err != nil {
		return err
	}
	vmlinuz, err := c.kernel(ctx, debian)
	if err != nil {
		return err
	}
	names, err := chosen(debian, withDependencies(debian, lines))
	if err != nil {
		return fmt.Errorf("choose files of the Debian tree: %w", err)
	}
	content := archive.New()
	for _, add := range []func(*archive.Archive) error{
		addDirectories,
		func(a *archive.Archive) error { addTree(a, debian, names); return nil },
		addFiles,
		func(a *archive.Archive) error { return addPrograms(ctx, a, c) },
	} {
		if err := add(content); err != nil {
			return err
		}
	}
	if c.Addons != "" {
		if err := writeAddons(ctx, c.Addons, debian, names); err != nil {
			return err
		}
	}
	return write(content, vmlinuz, c)
}

// wishes are the patterns of the Debian tree's files.
func (c Config) wishes() ([]pick.Line, error) {
	lines, err := pick.ParseList(toolList)
	if err != nil {
		return nil, fmt.Errorf("tools.txt: %w", err)
	}
	switch c.Kernel {
	case Gokrazy, "":
		return lines, nil
	case Debian:
		modules, err := pick.ParseList(moduleList)
		if err != nil {
			return nil, fmt.Errorf("modules.txt: %w", err)
		}
		return append(lines, modules...), nil
	}
	return nil, fmt.Errorf("kernel %q: want %s or %s", c.Kernel, Gokrazy, Debian)
}

// unneeded are the large parts of a tree that no list asks for.
var unneeded = []string{"usr/share/doc/", "usr/share/man/", "usr/share/locale/", "usr/share/i18n/", "usr/include/", "var/"}

func readTree(name string, withKernel bool) (*tree.Tree, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	t, err := tree.Read(file, func(path string) bool {
		kernel := strings.HasPrefix(path, "boot/") || strings.HasPrefix(path, "usr/lib/modules/")
		return (!kernel || withKernel) && !hasAnyPrefix(path, unneeded)
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return t, nil
}

func hasAnyPrefix(s string, prefixes []string) bool {
	for _, prefix := range prefixes {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	return false
}

// kernel is the kernel's content.
func (c Config) kernel(ctx context.Context, debian *tree.Tree) ([]byte, error) {
	if c.Kernel == Debian {
		return debianKernel(debian)
	}
	dir, err := compile.ModuleDir(ctx, c.Module, kernelModule)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(dir, "vmlinuz"))
}

func debianKernel(t *tree.Tree) ([]byte, error) {
	var kernels []string
	for _, name := range t.Names() {
		if ok, _ := path.Match("boot/vmlinuz-*", name); ok {
			kernels = append(kernels, name)
		}
	}
	if len(kernels) != 1 {
		return nil, fmt.Errorf("the tree has %d kernels in /boot %v, want one", len(kernels), kernels)
	}
	kernel, _ := t.Get(kernels[0])
	return kernel.Data, nil
}

func addDirectories(a *archive.Archive) error {
	for _, dir := range []string{"dev", "proc", "sys", "run", "root", "mnt", "chroot", "var/lib", "var/log"} {
		a.Directory(dir, 0o755)
	}
	a.Directory("tmp", 0o777|fs.ModeSticky)
	a.Link("etc/mtab", "/proc/self/mounts")
	return nil
}

// addTree copies what the lists ask for. Owners are root's, and there is
// nobody else for whom a set-user-ID bit would matter.
func addTree(a *archive.Archive, t *tree.Tree, names []string) {
	for _, name := range names {
		switch entry, _ := t.Get(name); {
		case entry.Mode.IsDir():
			a.Directory(name, 0o755)
		case entry.Mode&fs.ModeSymlink != 0:
			a.Link(name, entry.Link)
		default:
			a.File(name, entry.Data, entry.Mode&0o755)
		}
	}
}

// chosen are the files that the lists ask for, with what they need.
func chosen(t *tree.Tree, lines []pick.Line) ([]string, error) {
	names, err := pick.Pick(t, lines)
	if err != nil {
		return nil, err
	}
	wanted, err := firmware(t, names)
	if err != nil {
		return nil, err
	}
	files, err := pick.Pick(t, wanted)
	return append(names, files...), err
}

// addFiles copies our own configuration files over.
func addFiles(a *archive.Archive) error {
	return fs.WalkDir(files, "files", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := files.ReadFile(name)
		name = strings.TrimPrefix(name, "files/")
		mode := fs.FileMode(0o644)
		if strings.HasPrefix(name, "usr/sbin/") {
			mode = 0o755
		}
		a.File(name, data, mode)
		return err
	})
}

func addPrograms(ctx context.Context, a *archive.Archive, c Config) error {
	for name, pkg := range map[string]string{"init": "edeploy/initrd/cmd/init", "usr/bin/agent": c.Agent} {
		binary, err := compile.Program(ctx, c.Module, pkg)
		if err != nil {
			return err
		}
		a.File(name, binary, 0o755)
	}
	return addCommands(a, c.Module)
}

func addCommands(a *archive.Archive, module string) error {
	packages, err := compile.Imports(commands)
	if err != nil {
		return err
	}
	binary, names, err := compile.Busybox(module, packages)
	if err != nil {
		return err
	}
	a.File("bbin/bb", binary, 0o755)
	for _, name := range names {
		a.Link("bbin/"+name, "bb")
	}
	return nil
}

func write(content *archive.Archive, vmlinuz []byte, c Config) error {
	plain, err := content.Cpio()
	if err != nil {
		return err
	}
	packed, err := archive.Compress(plain)
	if err != nil {
		return err
	}
	if err := replace(c.Vmlinuz, vmlinuz); err != nil {
		return err
	}
	return replace(c.Initrd, packed)
}

func replace(name string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return fmt.Errorf("make directory for output: %w", err)
	}
	if err := renameio.WriteFile(name, data, 0o644); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
