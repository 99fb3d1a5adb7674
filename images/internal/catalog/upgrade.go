package catalog

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"edeploy/server/wire"

	"golang.org/x/sys/unix"
)

// Sentinels of upgrades.
var (
	ErrNoUpgrade = errors.New("no such upgrade")
	ErrAnother   = errors.New("another upgrade of this name is there already")
)

// Upgrade is the metadata of one upgrade: TOP/metadata/FROM/ROLE/TO.
type Upgrade struct {
	From      string        `json:"from"`
	Role      string        `json:"role"`
	To        string        `json:"to"`
	Files     []UpgradeFile `json:"files"`
	Published time.Time     `json:"published"`
	Complete  bool          `json:"complete"`         // the image ROLE TO is here
	Broken    string        `json:"broken,omitempty"` // why its files cannot be read
	State     UpgradeState  `json:"state,omitempty"`
}

// UpgradeFile is one file of it.
type UpgradeFile struct {
	Name   string `json:"name"` // below the directory, with slashes
	Bytes  int64  `json:"bytes"`
	Mode   string `json:"mode"`   // octal
	SHA256 string `json:"sha256"` // hexadecimal
}

// UpgradeState is what PutUpgrade did.
type UpgradeState string

// The states.
const (
	UpgradeNew      UpgradeState = "new"
	UpgradeSame     UpgradeState = "same"     // it was there already
	UpgradeReplaced UpgradeState = "replaced" // another one was there
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
func (c *Catalog) Upgrades() ([]Upgrade, error) {
	found := []Upgrade{}
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
func (c *Catalog) UpgradesFrom(from wire.ImageRef) ([]Upgrade, error) {
	found := []Upgrade{}
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
func (c *Catalog) Upgrade(from wire.ImageRef, to string) (Upgrade, error) {
	u := Upgrade{From: from.Version, Role: from.Role, To: to}
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
		u.Files, u.Broken = []UpgradeFile{}, err.Error()
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
func upgradeFiles(tree fs.FS, dir string, sum func(fs.FS, string, fs.FileInfo) (string, error)) ([]UpgradeFile, error) {
	const most = 10
	files := []UpgradeFile{}
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
		files = append(files, UpgradeFile{rel, info.Size(), fmt.Sprintf("%04o", info.Mode().Perm()), text})
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

// summed is the sum of a file as long as it does not change.
type summed struct {
	inode    uint64
	modified time.Time
	size     int64
	sum      string
}

// knownSum is sumOf that reads a published file once: lists name the sums of all.
func (c *Catalog) knownSum(tree fs.FS, name string, info fs.FileInfo) (string, error) {
	const most = 20_000
	now := summed{modified: info.ModTime(), size: info.Size()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		now.inode = st.Ino
	}
	c.summing.Lock()
	defer c.summing.Unlock()
	known := c.sums[name]
	if now.sum = known.sum; known == now && now.sum != "" {
		return now.sum, nil
	}
	var err error
	if now.sum, err = sumOf(tree, name, info); err == nil {
		if len(c.sums) >= most {
			clear(c.sums)
		}
		c.sums[name] = now
	}
	return now.sum, err
}

// PutUpgrade makes an upgrade of the files in a tar stream (plain, gzip or
// zstd). It is checked aside and appears whole; one that was there stays when
// this one is refused. With onlyNew another one is not replaced: ErrAnother.
func (c *Catalog) PutUpgrade(ctx context.Context, from wire.ImageRef, to string, archive io.Reader, onlyNew bool) (Upgrade, error) {
	none := Upgrade{}
	name, release, err := c.reserveUpgrade(from, to)
	if err != nil {
		return none, err
	}
	defer release()
	if err := c.roomForUpgrade(); err != nil {
		return none, err
	}
	room, err := c.promise(from, space{maxUpgradeBytes, maxUpgradeNames})
	if err != nil {
		return none, err
	}
	defer room.end()
	stage, err := os.MkdirTemp(c.incoming(""), "metadata-")
	if err != nil {
		return none, full(err)
	}
	defer c.discard(stage)
	if err := c.memory.Acquire(ctx, upgradeMemory); err != nil {
		return none, err
	}
	err = stageUpgrade(ctx, stage, archive)
	c.memory.Release(upgradeMemory)
	if err != nil {
		kind := ErrInvalid
		if isFull(err) {
			kind = ErrNoSpace
		}
		return none, fmt.Errorf("%w: upgrade of %s to %s: %w", kind, from, to, err)
	}
	state, err := c.compareUpgrade(from, to, stage)
	if err != nil {
		return none, err
	}
	if state == UpgradeReplaced && onlyNew {
		return none, fmt.Errorf("%s to %s: %w", from, to, ErrAnother)
	}
	if state != UpgradeSame {
		if err := c.revealUpgrade(stage, name, state); err != nil {
			return none, full(err)
		}
	}
	u, err := c.Upgrade(from, to)
	u.State = state
	return u, err
}

// Limits of the metadata of all upgrades, so that it leaves space for images.
const (
	maxAllNames = 20_000
	maxAllBytes = 256 << 20
)

// roomForUpgrade says when the metadata of all upgrades has reached a limit.
func (c *Catalog) roomForUpgrade() error {
	names, bytes := 0, int64(0)
	err := fs.WalkDir(c.metadata.FS(), ".", func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil // what cannot be read is named in the list
		}
		if info, err := e.Info(); err == nil && e.Type().IsRegular() {
			bytes += info.Size()
		}
		if names++; names > maxAllNames || bytes > maxAllBytes {
			return fs.SkipAll
		}
		return nil
	})
	if err == nil && (names > maxAllNames || bytes > maxAllBytes) {
		err = fmt.Errorf("%w: the metadata of all upgrades has more than %d files and directories or %d MB: remove upgrades that are not needed any more",
			ErrNoSpace, maxAllNames, maxAllBytes>>20)
	}
	return err
}

// reserveUpgrade makes the caller the only one that changes the upgrade, whose
// directories it answers for: those of a version that is a link to another one
// are not changed through the link.
func (c *Catalog) reserveUpgrade(from wire.ImageRef, to string) (name string, release func(), err error) {
	if name, err = upgradePath(from, to); err != nil {
		return "", nil, err
	}
	for dir := name; dir != "."; dir = path.Dir(dir) {
		info, err := c.metadata.Lstat(dir)
		if err == nil && info.Mode().Type() == fs.ModeSymlink {
			target, _ := c.metadata.Readlink(dir)
			return "", nil, fmt.Errorf("%w: %s/%s is a link to %s, change it there", ErrInvalid, MetadataDir, dir, target)
		}
		if err == nil && !info.IsDir() {
			return "", nil, fmt.Errorf("%w: %s/%s is not a directory", ErrInvalid, MetadataDir, dir)
		}
	}
	// No name of a version holds this character.
	release, err = c.reserve(wire.ImageRef{Role: from.Role, Version: from.Version + "=" + to})
	return name, release, err
}

// compareUpgrade says what it would do to put the staged upgrade in place.
func (c *Catalog) compareUpgrade(from wire.ImageRef, to, stage string) (UpgradeState, error) {
	old, err := c.Upgrade(from, to)
	if errors.Is(err, ErrNoUpgrade) {
		return UpgradeNew, nil
	}
	if err != nil {
		return "", err
	}
	files, err := upgradeFiles(os.DirFS(stage), ".", sumOf)
	if err != nil {
		return "", err
	}
	if old.Broken == "" && slices.Equal(old.Files, files) {
		return UpgradeSame, nil
	}
	return UpgradeReplaced, nil
}

// revealUpgrade puts the staged directory in its place in one step. What was
// there is in stage afterwards.
func (c *Catalog) revealUpgrade(stage, name string, state UpgradeState) error {
	if err := os.Chmod(stage, 0o755); err != nil {
		return err
	}
	if err := c.syncFileSystem(); err != nil {
		return err
	}
	if err := c.metadata.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	flags := uint(unix.RENAME_NOREPLACE)
	if state == UpgradeReplaced {
		flags = unix.RENAME_EXCHANGE
	}
	// No directory on the way is a link: see reserveUpgrade.
	place := filepath.Join(c.Dir(MetadataDir), name)
	if err := unix.Renameat2(unix.AT_FDCWD, stage, unix.AT_FDCWD, place, flags); err != nil {
		return fmt.Errorf("put %s in place: %w", name, err)
	}
	return c.syncFileSystem()
}

// DeleteUpgrade removes an upgrade, which disappears whole.
func (c *Catalog) DeleteUpgrade(from wire.ImageRef, to string) error {
	name, release, err := c.reserveUpgrade(from, to)
	if err != nil {
		return err
	}
	defer release()
	if _, err := c.Upgrade(from, to); err != nil {
		return err
	}
	trash, err := os.MkdirTemp(c.incoming(""), "delete-")
	if err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(c.Dir(MetadataDir), name), filepath.Join(trash, "upgrade")); err != nil {
		return err
	}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		c.metadata.Remove(dir) // succeeds when this was the last upgrade in it
	}
	c.discard(trash)
	return nil
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
