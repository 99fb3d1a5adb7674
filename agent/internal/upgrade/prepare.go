package upgrade

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"edeploy/agent/internal/installed"
	"edeploy/agent/internal/plan"
	"edeploy/agent/internal/source"
	"edeploy/agent/internal/treepath"
	"edeploy/images/manifest"
	"edeploy/server/wire"
)

// Preparation is all that is known before an upgrade changes anything.
type Preparation struct {
	Conf   wire.Installed
	To     wire.ImageRef
	Plan   *plan.Plan
	Merged []Merge // files of users and groups, which are not in the plan then
	Losses []Loss

	system       System
	files        *source.Files
	metadata     string // directory: exclude, add_only, pre, post
	disk, target *manifest.Manifest
	collisions   error // of ids of users and groups: one sentence a line
}

// Prepare fetches metadata into an empty directory, and the target's manifest,
// looks at the disk, and plans. The preparation must be closed.
func (s System) Prepare(ctx context.Context, conf wire.Installed, to, dir string) (*Preparation, error) {
	p := &Preparation{system: s, Conf: conf, metadata: dir}
	var err error
	if p.To, err = wire.NewImageRef(conf.Image.Role, to); err != nil {
		return nil, err
	}
	if p.To == conf.Image {
		return nil, fmt.Errorf("this machine is %s already", conf.Image)
	}
	p.files = s.Files(conf)
	if err := p.fetch(ctx); err != nil {
		return nil, err
	}
	given, err := installed.ReadMetadata(p.metadata)
	if err != nil {
		return nil, fmt.Errorf("metadata of %s to %s: %w", conf.Image, p.To.Version, err)
	}
	if err := p.warnOfLinks(); err != nil {
		return nil, err
	}
	if err := p.compare(ctx, given); err != nil {
		return nil, err
	}
	if err := p.mergeAccounts(ctx, given.Exclude); err != nil {
		return nil, CannotLook{fmt.Errorf("users and groups: %w", err)}
	}
	p.Losses, err = p.lost()
	return p, err
}

// Close lets go of the server.
func (p *Preparation) Close() { p.files.Close() }

// compare plans what makes the disk the target, by the given rules.
func (p *Preparation) compare(ctx context.Context, given installed.Metadata) error {
	own, err := p.system.Protected()
	if err != nil {
		return err
	}
	// What no upgrade may touch comes first.
	exclude, addOnly := own.Then(given.Exclude), own.Then(given.AddOnly)
	err = Undisturbed(p.system.Transaction(), func() error {
		progress, over := p.system.Compare()
		defer over()
		p.disk, err = plan.Scan(ctx, p.system.Root, p.target, exclude, progress)
		return err
	})
	if err != nil {
		return CannotLook{err}
	}
	p.Plan, err = plan.New(p.target, p.disk, exclude, addOnly)
	return err
}

// warnOfLinks tells of rules that do not protect what they seem to, here or in
// the new version.
func (p *Preparation) warnOfLinks() error {
	told := map[string]bool{}
	for _, tree := range []treepath.Tree{treepath.OnDisk(p.system.Root), treepath.Of(p.target)} {
		for _, name := range []string{"exclude", "add_only"} {
			found, err := installed.Astray(p.metadata, name, tree)
			if err != nil {
				return err
			}
			for _, sentence := range found {
				if !told[sentence] {
					p.system.Log.Warn("warning: " + sentence)
				}
				told[sentence] = true
			}
		}
	}
	return nil
}

// Files is where the machine's trees come from.
func (s System) Files(conf wire.Installed) *source.Files {
	host := cmp.Or(conf.Serv, conf.RServ) // the original's conf loses SERV
	return source.NewFiles(source.Config{Host: host, Port: conf.HTTPPort, Patience: s.Patience, Notify: s.Notify})
}

// fetch gets metadata and manifest; what the server has for this upgrade counts
// more than what the tree itself brings (reference section 10.3 step 1).
func (p *Preparation) fetch(ctx context.Context) error {
	err := installed.FetchMetadata(ctx, p.Conf, p.To.Version, p.metadata)
	switch {
	case errors.Is(err, installed.ErrNoUpgrade):
		return err
	case err != nil:
		return CannotLook{err}
	}
	var from source.Manifests = p.files
	if p.Conf.Serv == "" {
		from = source.Client{Installed: p.Conf}
	}
	if p.target, err = from.Manifest(ctx, p.To); err != nil {
		return CannotLook{err}
	}
	for _, name := range []string{"exclude", "pre", "post"} {
		if err := p.fromTree(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

const maxScriptBytes = 1 << 20

// fromTree takes a file of the metadata from the target tree, when the server's
// metadata do not have it and the tree does.
func (p *Preparation) fromTree(ctx context.Context, name string) error {
	file := filepath.Join(p.metadata, name)
	if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	at, err := treepath.Of(p.target).Target(path.Join(path.Dir(wire.ConfPath), p.To.Version, name))
	if err != nil {
		return nil
	}
	e, ok := p.target.Lookup(at)
	if !ok || e.Type != manifest.File || e.Size > maxScriptBytes {
		return nil
	}
	text, err := p.text(ctx, p.files.Tree(p.To), e, maxScriptBytes)
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte(text), fs.FileMode(e.Mode&0o777))
}

func (p *Preparation) text(ctx context.Context, tree source.Tree, e *manifest.Entry, limit int64) (string, error) {
	if e.Size > limit {
		return "", fmt.Errorf("%s of the tree has %d bytes, at most %d are taken", manifest.Escape(e.Path), e.Size, limit)
	}
	in, err := tree.Open(ctx, e)
	if err != nil {
		return "", err
	}
	defer in.Close()
	text, err := io.ReadAll(in)
	if err == nil && sha256.Sum256(text) != e.SHA256 {
		err = errors.New("its content is not the one that the manifest describes")
	}
	if err != nil {
		return "", fmt.Errorf("%s of the tree: %w", manifest.Escape(e.Path), err)
	}
	return string(text), nil
}

// Possible is an error when something excluded is in the way.
func (p *Preparation) Possible() error {
	n := len(p.Plan.Conflicts)
	switch {
	case n == 0 && p.collisions == nil:
		return nil
	case n == 0:
		return fmt.Errorf("%s to %s is not possible: %w", p.Conf.Image, p.To.Version, p.collisions)
	}
	return fmt.Errorf("%s to %s is not possible: something excluded is in the way of %d paths, the first: %v",
		p.Conf.Image, p.To.Version, n, p.Plan.Conflicts[0])
}

// Conflicts are what makes the upgrade impossible, a sentence each.
func (p *Preparation) Conflicts() []string {
	all := []string{}
	for _, c := range p.Plan.Conflicts {
		all = append(all, c.String())
	}
	if p.collisions != nil {
		all = append(all, strings.Split(p.collisions.Error(), "\n")...)
	}
	return all
}
