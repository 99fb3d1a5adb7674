package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"edeploy/server/api"
	"edeploy/server/wire"

	"golang.org/x/sys/unix"
)

// PutUpgrade makes an upgrade of the files in a tar stream (plain, gzip or
// zstd). It is checked aside and appears whole; one that was there stays when
// this one is refused. With onlyNew another one is not replaced: ErrAnother.
func (c *Catalog) PutUpgrade(ctx context.Context, from wire.ImageRef, to string, archive io.Reader, onlyNew bool) (api.Upgrade, error) {
	none := api.Upgrade{}
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
	if state == api.UpgradeReplaced && onlyNew {
		return none, fmt.Errorf("%s to %s: %w", from, to, ErrAnother)
	}
	if state != api.UpgradeSame {
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
func (c *Catalog) compareUpgrade(from wire.ImageRef, to, stage string) (api.UpgradeState, error) {
	old, err := c.Upgrade(from, to)
	if errors.Is(err, ErrNoUpgrade) {
		return api.UpgradeNew, nil
	}
	if err != nil {
		return "", err
	}
	files, err := upgradeFiles(os.DirFS(stage), ".", sumOf)
	if err != nil {
		return "", err
	}
	if old.Broken == "" && slices.Equal(old.Files, files) {
		return api.UpgradeSame, nil
	}
	return api.UpgradeReplaced, nil
}

// revealUpgrade puts the staged directory in its place in one step. What was
// there is in stage afterwards.
func (c *Catalog) revealUpgrade(stage, name string, state api.UpgradeState) error {
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
	if state == api.UpgradeReplaced {
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
