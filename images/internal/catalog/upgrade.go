package catalog

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"edeploy/server/api"
	"edeploy/server/wire"
)

// Sentinels of upgrades.
var (
	ErrNoUpgrade = errors.New("no such upgrade")
	ErrAnother   = errors.New("another upgrade of this name is there already")
)

// upgradePath is FROM/ROLE/TO below the directory of metadata.
func upgradePath(from wire.ImageRef, to string) (string, error) {
	if _, err := wire.NewImageRef(from.Role, to); err != nil {
		return "", fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if from.Version == to {
		return "", fmt.Errorf("%w: an upgrade from %s to itself", ErrInvalid, from)
	}
	return wire.UpgradePath(from, to), nil
}

// Upgrades lists all upgrades, by versions and role.
func (c *Catalog) Upgrades() ([]api.Upgrade, error) {
	found := []api.Upgrade{}
	froms, err := c.metadata.names(".")
	if err != nil {
		return nil, fmt.Errorf("list upgrades: %w", err)
	}
	for _, from := range froms {
		roles, err := c.metadata.names(from)
		if err != nil {
			c.log.Error("list upgrades", "from", from, "err", err)
			continue
		}
		for _, role := range roles {
			ref, err := wire.NewImageRef(role, from)
			if err != nil {
				continue
			}
			upgrades, err := c.UpgradesFrom(ref)
			if err != nil {
				c.log.Error("list upgrades", "err", err)
				continue
			}
			found = append(found, upgrades...)
		}
	}
	return found, nil
}

// UpgradesFrom lists the upgrades of one image, by version.
func (c *Catalog) UpgradesFrom(from wire.ImageRef) ([]api.Upgrade, error) {
	found := []api.Upgrade{}
	versions, err := c.metadata.names(from.Tree())
	if err != nil {
		return nil, fmt.Errorf("list upgrades of %s: %w", from, err)
	}
	for _, to := range versions {
		u, err := c.Upgrade(from, to)
		if err == nil {
			found = append(found, u)
		} else if !errors.Is(err, ErrNoUpgrade) && !errors.Is(err, ErrInvalid) { // deleted meanwhile, or a directory of another purpose
			c.log.Error("list upgrades", "err", err)
		}
	}
	return found, nil
}

// Upgrade describes one upgrade; the error wraps ErrNoUpgrade when it is not there.
func (c *Catalog) Upgrade(from wire.ImageRef, to string) (api.Upgrade, error) {
	u := api.Upgrade{From: from.Version, Role: from.Role, To: to}
	name, err := upgradePath(from, to)
	if err != nil {
		return u, err
	}
	info, err := c.metadata.Stat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return u, fmt.Errorf("%s to %s: %w", from, to, ErrNoUpgrade)
	}
	if err != nil {
		return u, err
	}
	u.Published = info.ModTime().UTC()
	if u.Files, err = upgradeFiles(c.metadata.FS(), name, c.knownSum); err != nil {
		u.Files, u.Broken = []api.UpgradeFile{}, err.Error()
	}
	image, err := c.Get(wire.ImageRef{Role: from.Role, Version: to})
	if err != nil && !errors.Is(err, ErrNotFound) {
		return u, err
	}
	u.Complete = image.Complete
	return u, nil
}

// upgradeFiles describes the files below a directory, in the order of names.
// One that was put in by hand may have more than one that was sent, but not
// without bound.
func upgradeFiles(tree fs.FS, dir string, sum func(fs.FS, string, fs.FileInfo) (string, error)) ([]api.UpgradeFile, error) {
	const most = 10
	files := []api.UpgradeFile{}
	names, bytes := 0, int64(0)
	err := fs.WalkDir(tree, dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if names++; names > most*maxUpgradeNames || strings.Count(name, "/") > most*maxUpgradeDepth || bytes > most*maxUpgradeBytes {
			return tooMuch(names, bytes)
		}
		if !e.Type().IsRegular() {
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if bytes += info.Size(); bytes > most*maxUpgradeBytes {
			return nil // the next name says so
		}
		text, err := sum(tree, name, info)
		rel, _ := filepath.Rel(dir, name)
		files = append(files, api.UpgradeFile{Name: rel, Bytes: info.Size(), Mode: fmt.Sprintf("%04o", info.Mode().Perm()), SHA256: text})
		return err
	})
	if err == nil && bytes > most*maxUpgradeBytes {
		err = tooMuch(names, bytes)
	}
	return files, err
}

func tooMuch(names int, bytes int64) error {
	return fmt.Errorf("there is more in it than the metadata of an upgrade can be: %d names, %d MB", names, bytes>>20)
}

// sumOf is the SHA-256 of a file.
func sumOf(tree fs.FS, name string, info fs.FileInfo) (string, error) {
	f, err := tree.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	hash := sha256.New()
	_, err = io.Copy(hash, io.LimitReader(f, info.Size()))
	return hex.EncodeToString(hash.Sum(nil)), err
}

// knownSum is sumOf that reads a published file once: lists name the sums of all.
func (c *Catalog) knownSum(tree fs.FS, name string, info fs.FileInfo) (string, error) {
	return c.sums.get(name, info, func() (string, error) { return sumOf(tree, name, info) })
}

// directory is a directory whose names come from the network.
type directory struct{ *os.Root }

// names lists the directories in one, and links to such; none when it is missing.
func (d directory) names(dir string) ([]string, error) {
	entries, err := fs.ReadDir(d.FS(), dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		if info, err := d.Stat(path.Join(dir, e.Name())); err == nil && info.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, err
}
