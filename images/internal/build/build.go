// Package build makes role trees: mmdebstrap installs Debian packages into a
// tree of files, or on top of another role's tree, and hands it out as a tar
// stream; from it come the archive, the manifest and the package list.
package build

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"edeploy/images/internal/role"
	"edeploy/images/manifest"
	"edeploy/images/manifest/archive"
	"edeploy/server/wire"

	"github.com/google/renameio/v2"
)

// Build is one version of one role to be made.
type Build struct {
	Roles   role.Path     // directories of the role definitions
	Image   wire.ImageRef // what to make
	Out     string        // directory that holds VERSION/ROLE-VERSION.edeploy and the rest
	Base    string        // version of the base role to start from; "": the version to make
	From    string        // version of the same role to start from; "": what the version's definition says
	Kernel  string        // kernel package instead of the role's own; "": the role's
	Once    bool          // do not build a second time to find what belongs to one machine
	Epoch   time.Time     // no file of the tree is newer than this
	Observe func(Event)   // nil: nobody looks
}

// Event tells how far a build is.
type Event struct {
	Phase string // what is being done
	Done  int    // of Total steps of the phase
	Total int    // 0: not known
}

// Result is what a build made.
type Result struct {
	Image    wire.ImageRef
	From     string // version that it started from, "" for none
	Archive  string // path of the archive; manifest and package list are beside it
	Size     int64  // bytes of the archive
	Entries  int    // entries of the tree
	Bytes    int64  // bytes of the tree's files
	Packages int
}

// Run makes the image: archive, manifest (.mtree), package list (.packages) and
// log (.log). They appear under their names when all is done and checked; the
// archive last. An error names the log when mmdebstrap failed.
func (b Build) Run(ctx context.Context) (Result, error) {
	if b.Observe == nil {
		b.Observe = func(Event) {}
	}
	recipe, err := b.recipe()
	if err != nil {
		return Result{}, err
	}
	if err := needTools(); err != nil {
		return Result{}, err
	}
	dir := filepath.Join(b.Out, b.Image.Version)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Result{}, err
	}
	work, err := os.MkdirTemp(dir, ".build-"+b.Image.Role+"-")
	if err != nil {
		return Result{}, err
	}
	defer os.RemoveAll(work)
	// mmdebstrap without root runs as another user, which must look inside.
	if err := os.Chmod(work, 0o755); err != nil {
		return Result{}, err
	}
	return b.run(ctx, recipe, work)
}

func (b Build) run(ctx context.Context, c recipe, work string) (Result, error) {
	r := Result{Image: b.Image, From: c.version.From, Archive: filepath.Join(b.Out, b.Image.Archive())}
	b.Observe(Event{Phase: "compile"})
	if err := compile(ctx, c.role.Programs, work); err != nil {
		return r, err
	}
	if err := b.prepare(c, work); err != nil {
		return r, err
	}
	stem := strings.TrimSuffix(filepath.Base(r.Archive), ".edeploy")
	logFile := filepath.Join(b.Out, b.Image.Version, stem+".log")
	ctx, stop := context.WithCancel(ctx)
	second := func() (*manifest.Manifest, error) { return nil, nil }
	if !b.Once {
		second = b.again(ctx, c, work, stem)
	}
	// Nothing may write to work when it is removed.
	defer second()
	defer stop()
	tree, err := b.bootstrap(ctx, c, work, logFile)
	if err != nil {
		return r, err
	}
	defer tree.Close()
	b.Observe(Event{Phase: "pack"})
	m, err := b.pack(ctx, c, tree, work, stem, &r)
	if err != nil {
		return r, err
	}
	if err := b.judge(c, m, second, work, stem); err != nil {
		return r, err
	}
	return r, b.publish(work, stem)
}

// judge refuses what is not fit for use, and leaves a record of the comparison
// with the second build.
func (b Build) judge(c recipe, m *manifest.Manifest, second func() (*manifest.Manifest, error), work, stem string) error {
	b.Observe(Event{Phase: "check"})
	findings, err := CheckFile(filepath.Join(work, stem+".edeploy"), b.Image, c.role.Bootable, c.shared)
	if err != nil {
		return err
	}
	if len(findings) > 0 {
		return fmt.Errorf("%s is not fit for use: %s", b.Image, strings.Join(findings, "; "))
	}
	if b.Once {
		return nil
	}
	b.Observe(Event{Phase: "compare with a second build"})
	again, err := second()
	if err != nil {
		return err
	}
	if differ := compare(m, again, c.shared); len(differ) > 0 {
		return b.differError(differ)
	}
	return c.writeRecord(work, stem)
}

func needTools() error {
	for _, tool := range []string{"mmdebstrap", "tar"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("build a role: the program %s is missing (Debian package %s)", tool, tool)
		}
	}
	return nil
}

// compile builds the role's own programs, static, without traces of the machine.
func compile(ctx context.Context, programs []role.Program, work string) error {
	for i, p := range programs {
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -X edeploy/server/wire.release="+wire.Release(),
			"-o", programFile(work, i), p.Package)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("compile %s: %w\n%s", p.Package, err, out)
		}
	}
	return nil
}

func programFile(work string, i int) string {
	return filepath.Join(work, fmt.Sprintf("program-%d", i))
}

// bootstrap makes the tree. It comes as a tar stream and is kept in a file,
// because whether it is good is known at the end only.
func (b Build) bootstrap(ctx context.Context, c recipe, work, logFile string) (*os.File, error) {
	tree, err := os.Create(filepath.Join(work, "tree"))
	if err != nil {
		return nil, err
	}
	err = b.mmdebstrap(ctx, c, work, logFile, tree)
	if err == nil {
		_, err = tree.Seek(0, io.SeekStart)
	}
	if err != nil {
		tree.Close()
		return nil, err
	}
	return tree, nil
}

// mmdebstrap writes the tree, as tar, to tree.
func (b Build) mmdebstrap(ctx context.Context, c recipe, work, logFile string, tree io.Writer) error {
	log, err := os.Create(logFile)
	if err != nil {
		return err
	}
	defer log.Close()
	args := c.mmdebstrapArgs(work)
	cmd := exec.CommandContext(ctx, "mmdebstrap", args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it unmounts and removes its tree
	cmd.WaitDelay = time.Minute
	cmd.Env = append(os.Environ(), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", b.Epoch.Unix()))
	cmd.Stdout = tree
	if c.second && os.Geteuid() == 0 {
		// Its host has another name; without root, mmdebstrap has a namespace of its own.
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUTS}
	}
	watch := newWatch(b.Observe)
	cmd.Stderr = io.MultiWriter(log, watch)
	fmt.Fprintf(log, "%s\n", cmd)
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		cause, before := watch.cause()
		return fmt.Errorf("build %s: %s\nbefore that:\n%s\nlog: %s\n%w of %s", b.Image, cause, indent(before), logFile, err, cmd)
	}
	return nil
}

func indent(text string) string { return "  " + strings.ReplaceAll(text, "\n", "\n  ") }

// pack writes the archive, its manifest and its package list into work.
func (b Build) pack(ctx context.Context, c recipe, tree *os.File, work, stem string, r *Result) (*manifest.Manifest, error) {
	unchanged, err := c.unchanged(tree)
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w", b.Image, err)
	}
	packed, err := os.Create(filepath.Join(work, stem+".edeploy"))
	if err != nil {
		return nil, err
	}
	defer packed.Close()
	enc, err := archive.NewWriter(packed)
	if err != nil {
		return nil, err
	}
	m, err := archive.Normalize(ctx, enc, bufio.NewReaderSize(tree, 1<<20), archive.NormalizeOptions{Epoch: b.Epoch, Add: unchanged, SpoolDir: work})
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w", b.Image, err)
	}
	if err := errors.Join(enc.Close(), packed.Sync()); err != nil {
		return nil, fmt.Errorf("write %s: %w", packed.Name(), err)
	}
	info, err := packed.Stat()
	if err != nil {
		return nil, err
	}
	r.Size, r.Entries, r.Bytes = info.Size(), len(m.Entries), m.TotalBytes()
	var text bytes.Buffer
	if _, err := m.WriteTo(&text); err != nil {
		return nil, err
	}
	if err := renameio.WriteFile(filepath.Join(work, stem+".mtree"), text.Bytes(), 0o644); err != nil {
		return nil, err
	}
	if _, err := tree.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	packages, err := tarPackages(tree)
	if err != nil {
		return nil, err
	}
	r.Packages = len(packages)
	return m, renameio.WriteFile(filepath.Join(work, stem+".packages"), []byte(strings.Join(append(packages, ""), "\n")), 0o644)
}

// publish moves the results to their places. The archive of an earlier build
// goes first and the new one comes last: an archive is never beside another
// build's manifest.
func (b Build) publish(work, stem string) error {
	dir := filepath.Join(b.Out, b.Image.Version)
	if err := os.Remove(filepath.Join(dir, stem+".edeploy")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if b.Once {
		if err := os.Remove(filepath.Join(dir, stem+".machine")); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	for _, suffix := range []string{".packages", ".machine", ".mtree", ".edeploy"} {
		if suffix == ".machine" && b.Once {
			continue
		}
		if err := os.Rename(filepath.Join(work, stem+suffix), filepath.Join(dir, stem+suffix)); err != nil {
			return err
		}
	}
	return nil
}
