package build

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"edeploy/images/internal/role"
	"edeploy/images/manifest"
	"edeploy/images/manifest/archive"

	"github.com/google/renameio/v2"
)

// secondHost is the name of the machine that a second build runs on.
const secondHost = "another-host"

// again makes the tree a second time, with other random numbers and on a host
// of another name, and describes it; the archive is not needed. It runs beside
// the first build; the function that it answers waits for it.
func (b Build) again(ctx context.Context, c recipe, work, stem string) func() (*manifest.Manifest, error) {
	ctx, stop := context.WithCancel(ctx)
	c.second = true
	b.Observe = func(Event) {}
	tree, tar := io.Pipe()
	var described *manifest.Manifest
	var treeErr, err error
	read, made := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(read)
		described, treeErr = archive.Describe(bufio.NewReaderSize(tree, 1<<20))
		_, _ = io.Copy(io.Discard, tree) // to its end, else mmdebstrap would not end
	}()
	go func() {
		defer close(made)
		logFile := filepath.Join(b.Out, b.Image.Version, stem+".second.log")
		if err = os.WriteFile(filepath.Join(work, secondHook), []byte(c.archiveScript()), 0o755); err == nil {
			err = b.mmdebstrap(ctx, c, work, logFile, tar)
		}
		if err == nil || ctx.Err() != nil {
			_ = os.Remove(logFile)
		}
		tar.CloseWithError(err)
	}()
	return func() (*manifest.Manifest, error) {
		defer stop()
		<-made
		<-read
		if err := errors.Join(err, treeErr); err != nil {
			return nil, fmt.Errorf("second build: %w", err)
		}
		return described, nil
	}
}

// compare lists the paths, but for shared ones, in which two builds of the same
// role differ: they belong to one machine. Times do not count.
func compare(first, second *manifest.Manifest, shared []string) []string {
	var found []string
	diffs := manifest.Diff(first, second)
	diffs = slices.DeleteFunc(diffs, func(d manifest.Difference) bool {
		return d.Attribute == manifest.AttrTime || role.AnyFits(shared, "/"+d.Path)
	})
	for of := range manifest.ByPath(diffs) {
		_, words := summarize(of)
		if of[0].Attribute == manifest.AttrMissing || of[0].Attribute == manifest.AttrExtra {
			words = "in one of them only"
		}
		found = append(found, "/"+manifest.Escape(of[0].Path)+": "+words)
	}
	return found
}

// differError names what two builds differ in, and what can be done.
func (b Build) differError(differ []string) error {
	const most = 20
	shown := differ
	if len(shown) > most {
		shown = append(shown[:most:most], fmt.Sprintf("and %d more", len(differ)-most))
	}
	return fmt.Errorf(`%s is not fit for use: two builds of it differ in %d places, so these may be keys, names or numbers of one machine that all would share:
  %s
say in role.yaml what they are: "machine" has each machine make its own, "remove" takes them out, "shared" keeps them;
--once builds without looking`, b.Image, len(differ), strings.Join(shown, "\n  "))
}

// Record is what a build knows of what belongs to one machine, in ROLE-VERSION.machine.
type Record struct {
	Manifest string   // SHA-256 of the manifest of the build that was compared with a second one
	Shared   []string // shell patterns of paths that machines may share
}

func (r Record) text() string {
	var s strings.Builder
	s.WriteString("# What mkrole build found out about what belongs to one machine.\n" +
		"# compared: a second build was the same as the one with this manifest\n# shared: machines may share these paths\n")
	fmt.Fprintf(&s, "compared %s\n", r.Manifest)
	for _, p := range r.Shared {
		fmt.Fprintf(&s, "shared %s\n", p)
	}
	return s.String()
}

// ReadRecord reads the record beside an archive. compared says that it is about
// this archive's manifest; without a record, nothing is known.
func ReadRecord(archive string) (r Record, compared bool, err error) {
	text, err := os.ReadFile(beside(archive, ".machine"))
	if errors.Is(err, fs.ErrNotExist) {
		return r, false, nil
	}
	if err != nil {
		return r, false, err
	}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch key {
		case "compared":
			r.Manifest = value
		case "shared":
			r.Shared = append(r.Shared, value)
		}
	}
	m, err := os.ReadFile(beside(archive, ".mtree"))
	if errors.Is(err, fs.ErrNotExist) {
		return r, false, nil
	}
	return r, err == nil && r.Manifest == fmt.Sprintf("%x", sha256.Sum256(m)), err
}

// writeRecord leaves the record of a build that was compared in work.
func (c recipe) writeRecord(work, stem string) error {
	m, err := os.ReadFile(filepath.Join(work, stem+".mtree"))
	if err != nil {
		return err
	}
	r := Record{Manifest: fmt.Sprintf("%x", sha256.Sum256(m)), Shared: c.shared}
	return renameio.WriteFile(filepath.Join(work, stem+".machine"), []byte(r.text()), 0o644)
}
