package upgrade

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"edeploy/agent/internal/accounts"
	"edeploy/agent/internal/filter"
	"edeploy/agent/internal/installed"
	"edeploy/agent/internal/plan"
	"edeploy/images/manifest"
)

// Merge is a file of users or groups that gets entries of the machine and of the
// new tree.
type Merge struct {
	Path string   `json:"path"`
	Own  []string `json:"own"` // entries that the new tree does not have
	text string

	mine, theirs bool // as the machine has it already, as the new tree has it
}

func (m Merge) String() string {
	switch {
	case m.theirs:
		return "merged: " + m.Path + "  (as in the new version)"
	case len(m.Own) == 0:
		return "merged: " + m.Path + "  (this machine's changes stay)"
	}
	return "merged: " + m.Path + "  (of this machine: " + ShortList(m.Own) + ")"
}

// ShortList names the first of many, in printable characters.
func ShortList(all []string) string {
	const most = 10
	var names []string
	for _, name := range all[:min(len(all), most)] {
		names = append(names, manifest.Escape(name))
	}
	if more := len(all) - most; more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
}

// mergeAccounts merges users and groups, and takes those files out of the plan.
// The files belong together: they are left alone only when exclude names all.
func (p *Preparation) mergeAccounts(ctx context.Context, exclude filter.List) error {
	if !slices.ContainsFunc(accounts.Paths, func(path string) bool { return !exclude.Hides(path, false) }) {
		return nil
	}
	mine, err := readAccounts(p.system.Machine)
	if err != nil {
		return err
	}
	if _, ok := p.target.Lookup("etc/passwd"); !ok || mine["etc/passwd"] == "" {
		return nil
	}
	tree, err := accountsOf(p.target, func(e *manifest.Entry) (string, error) {
		if text := mine[e.Path]; sha256.Sum256([]byte(text)) == e.SHA256 {
			return text, nil
		}
		return p.text(ctx, p.files.Tree(p.To), e, accounts.MaxBytes)
	})
	if err != nil {
		return err
	}
	merged, err := accounts.Merge(p.oldAccounts(ctx, mine, tree), mine, tree)
	p.collisions = err
	p.planAccounts(merged, mine, tree)
	return ctx.Err()
}

func readAccounts(machine installed.Machine) (accounts.Set, error) {
	set := accounts.Set{}
	for _, path := range accounts.Paths {
		full := filepath.Join(machine.Root, path)
		info, err := os.Lstat(full)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		if info.Size() > accounts.MaxBytes {
			return nil, fmt.Errorf("merge %s: it has %d bytes, at most %d are taken", full, info.Size(), accounts.MaxBytes)
		}
		text, err := os.ReadFile(full)
		if err != nil {
			return nil, err
		}
		set[path] = string(text)
	}
	return set, nil
}

func accountsOf(m *manifest.Manifest, text func(*manifest.Entry) (string, error)) (accounts.Set, error) {
	set := accounts.Set{}
	for _, path := range accounts.Paths {
		e, ok := m.Lookup(path)
		if !ok || e.Type != manifest.File {
			continue
		}
		var err error
		if set[path], err = text(e); err != nil {
			return nil, err
		}
	}
	return set, nil
}

// oldAccounts are the files of the tree that the machine was made of: nothing
// when they are not to be had any more.
func (p *Preparation) oldAccounts(ctx context.Context, mine, tree accounts.Set) accounts.Set {
	was, err := p.system.Manifest()
	if err != nil {
		return nil
	}
	old, err := accountsOf(was, func(e *manifest.Entry) (string, error) {
		for _, text := range []string{mine[e.Path], tree[e.Path]} {
			if sha256.Sum256([]byte(text)) == e.SHA256 {
				return text, nil
			}
		}
		return p.text(ctx, p.files.Tree(p.Conf.Image), e, accounts.MaxBytes)
	})
	if err != nil {
		return nil
	}
	return old
}

// planAccounts makes the plan for what was merged. What becomes the tree's file is in the
// plan already, unless it is excluded.
func (p *Preparation) planAccounts(merged, mine, tree accounts.Set) {
	for _, path := range accounts.Paths {
		text, ok := merged[path]
		planned := func(o plan.Operation) bool { return o.Path == path }
		_, inTree := tree[path]
		if !ok || inTree && text == tree[path] && slices.ContainsFunc(p.Plan.Operations, planned) {
			continue
		}
		p.Plan.Operations = slices.DeleteFunc(p.Plan.Operations, planned)
		m := Merge{path, accounts.Own(path, merged, tree), text, text == mine[path], inTree && text == tree[path]}
		if !m.mine || !m.theirs {
			p.Merged = append(p.Merged, m)
		}
	}
}
