package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"edeploy/agent/internal/content"
	"edeploy/agent/internal/installed"
	"edeploy/agent/internal/plan"
	"edeploy/agent/internal/treepath"
	"edeploy/images/manifest"
	"edeploy/server/wire"
)

// preparation is all that is known before an upgrade changes anything.
type preparation struct {
	conf         wire.Installed
	to           wire.ImageRef
	server       *content.Server
	metadata     string // directory: exclude, add_only, pre, post
	disk, target *manifest.Manifest
	plan         *plan.Plan
	merged       []merge // files of users and groups, which are not in the plan then
	collisions   error   // of their ids: one sentence a line
	losses       []loss
}

// errCannotLook is wrapped when it could not even be found out what an upgrade
// would do.
type errCannotLook struct{ error }

func (e errCannotLook) Unwrap() error { return e.error }

// prepare fetches metadata into an empty directory, and the target's manifest,
// looks at the disk, and plans.
func (p program) prepare(ctx context.Context, machine installed.Machine, to, dir string) (*preparation, error) {
	conf, err := machine.Conf()
	if err != nil {
		return nil, errCannotLook{err}
	}
	r := &preparation{conf: conf, metadata: dir}
	if r.to, err = wire.NewImageRef(conf.Image.Role, to); err != nil {
		return nil, err
	}
	if r.to == conf.Image {
		return nil, fmt.Errorf("this machine is %s already", conf.Image)
	}
	r.server = p.server(conf)
	if err := r.fetch(ctx); err != nil {
		return nil, err
	}
	given, err := installed.ReadMetadata(r.metadata)
	if err != nil {
		return nil, fmt.Errorf("metadata of %s to %s: %w", r.conf.Image, r.to.Version, err)
	}
	if err := p.warnOfLinks(r, machine); err != nil {
		return nil, err
	}
	own, err := machine.Protected()
	if err != nil {
		return nil, err
	}
	// What no upgrade may touch comes first.
	rules := installed.Metadata{Exclude: own.Then(given.Exclude), AddOnly: own.Then(given.AddOnly)}
	bar := bar{out: p.stderr, title: "compare", on: p.terminal, now: time.Now, start: time.Now()}
	err = undisturbed(p.transaction(machine, true), func() error {
		defer bar.clear()
		r.disk, err = plan.Scan(ctx, machine.Root, r.target, rules.Exclude, bar.show)
		return err
	})
	if err != nil {
		return nil, errCannotLook{err}
	}
	if r.plan, err = plan.New(r.target, r.disk, rules.Exclude, rules.AddOnly); err != nil {
		return nil, err
	}
	if err := r.mergeAccounts(ctx, machine, given.Exclude); err != nil {
		return nil, errCannotLook{fmt.Errorf("users and groups: %w", err)}
	}
	r.losses, err = r.lost(machine)
	return r, err
}

// warnOfLinks tells of rules that do not protect what they seem to, here or in
// the new version.
func (p program) warnOfLinks(r *preparation, machine installed.Machine) error {
	told := map[string]bool{}
	for _, tree := range []treepath.Tree{treepath.OnDisk(machine.Root), treepath.Of(r.target)} {
		for _, name := range []string{"exclude", "add_only"} {
			found, err := installed.Astray(r.metadata, name, tree)
			if err != nil {
				return err
			}
			for _, sentence := range found {
				if !told[sentence] {
					fmt.Fprintf(p.stderr, "edeploy: warning: %s\n", sentence)
				}
				told[sentence] = true
			}
		}
	}
	return nil
}

// server is where the machine's trees come from.
func (p program) server(conf wire.Installed) *content.Server {
	host := conf.Serv
	if host == "" {
		host = conf.RServ // the original's conf loses SERV
	}
	return content.New(content.Config{Host: host, Port: conf.HTTPPort, Patience: p.patience,
		Say: func(s string) { fmt.Fprintf(p.stderr, "%s%s\n", clearLine(p.terminal), s) }})
}

// fetch gets metadata and manifest; what the server has for this upgrade counts
// more than what the tree itself brings (reference section 10.3 step 1).
func (r *preparation) fetch(ctx context.Context) error {
	err := installed.FetchMetadata(ctx, r.conf, r.to.Version, r.metadata)
	switch {
	case errors.Is(err, installed.ErrNoUpgrade):
		return err
	case err != nil:
		return errCannotLook{err}
	}
	if r.conf.Serv != "" {
		r.target, err = r.server.Manifest(ctx, r.to)
	} else {
		next := r.conf
		next.Image = r.to
		r.target, err = installed.Fetch(ctx, next)
	}
	if err != nil {
		return errCannotLook{err}
	}
	for _, name := range []string{"exclude", "pre", "post"} {
		if err := r.fromTree(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// maxScriptBytes bounds a script or a list out of the tree.
const maxScriptBytes = 1 << 20

// fromTree takes a file of the metadata from the target tree, when the server's
// metadata do not have it and the tree does.
func (r *preparation) fromTree(ctx context.Context, name string) error {
	file := filepath.Join(r.metadata, name)
	if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	at, err := treepath.Of(r.target).Target(path.Join(path.Dir(wire.ConfPath), r.to.Version, name))
	if err != nil {
		return nil
	}
	e, ok := r.target.Lookup(at)
	if !ok || e.Type != manifest.File || e.Size > maxScriptBytes {
		return nil
	}
	text, err := r.text(ctx, r.server.Tree(r.to), e, maxScriptBytes)
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte(text), fs.FileMode(e.Mode&0o777))
}

// text fetches a small file of a tree.
func (r *preparation) text(ctx context.Context, tree content.Tree, e *manifest.Entry, limit int64) (string, error) {
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

// possible is an error when something excluded is in the way.
func (r *preparation) possible() error {
	n := len(r.plan.Conflicts)
	switch {
	case n == 0 && r.collisions == nil:
		return nil
	case n == 0:
		return fmt.Errorf("%s to %s is not possible: %w", r.conf.Image, r.to.Version, r.collisions)
	}
	return fmt.Errorf("%s to %s is not possible: something excluded is in the way of %d paths, the first: %v",
		r.conf.Image, r.to.Version, n, r.plan.Conflicts[0])
}
