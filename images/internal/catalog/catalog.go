// Package catalog keeps the role images of an appliance:
//
//	TOP/install/VERSION/ROLE/                  tree
//	TOP/install/VERSION/ROLE-VERSION.mtree     manifest; an image is complete when tree and manifest are there
//	TOP/install/VERSION/ROLE-VERSION.edeploy   archive
//	TOP/metadata/FROM/ROLE/TO/                 upgrade metadata
//	TOP/.incoming/                             uploads and trees being unpacked, never served
//	TOP/.broken/                               what was there and could not be removed
package catalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"edeploy/images/manifest/archive"
	"edeploy/server/share"
	"edeploy/server/wire"

	"golang.org/x/sync/semaphore"
)

// Directories below TOP.
const (
	InstallDir  = "install"
	MetadataDir = "metadata"
	incomingDir = ".incoming"
	brokenDir   = ".broken"
)

// maxUnpacking bounds the trees that are unpacked at once.
const maxUnpacking = 2

// Memory in bytes that decompression takes, of all connections and of each.
const (
	maxMemory     = maxUnpacking*imageMemory + 4*upgradeMemory
	imageMemory   = archive.Memory
	upgradeMemory = 16 << 20
)

// staleUpload is how long an unfinished upload that nobody continues is kept.
const staleUpload = 7 * 24 * time.Hour

// Sentinels that callers branch on.
var (
	ErrBusy     = errors.New("another operation on this image is under way")
	ErrExists   = errors.New("the image is there already")
	ErrNotFound = errors.New("no such image")
	ErrNoSpace  = errors.New("not enough space")
	ErrInvalid  = errors.New("upload is not possible")
)

// Catalog is the directory TOP. Its methods may be called at once.
type Catalog struct {
	top      string
	log      *slog.Logger
	now      func() time.Time
	metadata directory

	mu       sync.Mutex
	busy     map[wire.ImageRef]bool
	promised space

	beginning sync.Mutex // one upload at a time is begun

	manifests known[measured]
	sums      known[string] // of upgrades' files

	leftovers []string              // of .incoming, found by Open
	unpacking *share.Places[string] // trees at once, one for each peer
	memory    *semaphore.Weighted
}

// Open makes the directories below top. A nil logger is silent. Nothing that
// came from a client keeps it from opening: see Tidy.
func Open(top string, log *slog.Logger) (*Catalog, error) {
	log = cmp.Or(log, slog.New(slog.DiscardHandler))
	c := &Catalog{top: top, log: log, now: time.Now, busy: map[wire.ImageRef]bool{}, unpacking: share.New[string](maxUnpacking, 0), memory: semaphore.NewWeighted(maxMemory)}
	for _, dir := range []string{InstallDir, MetadataDir, incomingDir} {
		if err := os.MkdirAll(filepath.Join(top, dir), 0o755); err != nil {
			return nil, fmt.Errorf("open catalog: %w", err)
		}
	}
	root, err := os.OpenRoot(c.Dir(MetadataDir))
	if err != nil {
		return nil, fmt.Errorf("open catalog: %w", err)
	}
	c.metadata = directory{root}
	c.leftovers = c.stale()
	return c, nil
}

// Dir is the directory of an rsync module or URL prefix: InstallDir or MetadataDir.
func (c *Catalog) Dir(name string) string { return filepath.Join(c.top, name) }

func (c *Catalog) install(name string) string  { return filepath.Join(c.top, InstallDir, name) }
func (c *Catalog) incoming(name string) string { return filepath.Join(c.top, incomingDir, name) }

// stale removes forgotten uploads and names half-unpacked and half-deleted trees.
func (c *Catalog) stale() []string {
	entries, err := os.ReadDir(c.incoming(""))
	if err != nil {
		c.log.Error("look for leftovers of unfinished imports", "err", err)
	}
	var names []string
	for _, e := range entries {
		info, err := e.Info()
		switch {
		case err != nil || e.IsDir():
			names = append(names, e.Name())
		case c.now().Sub(info.ModTime()) >= staleUpload:
			c.log.Info("remove an upload that nobody continues", "name", e.Name())
			if err := os.Remove(c.incoming(e.Name())); err != nil {
				c.putAside(e.Name(), err)
			}
		}
	}
	return names
}

// Tidy removes what crashed imports had left when the catalog was opened. What cannot be removed is put aside and logged.
func (c *Catalog) Tidy(ctx context.Context) {
	for _, name := range c.leftovers {
		if ctx.Err() != nil {
			return
		}
		c.log.Info("remove leftover of an unfinished import", "name", name)
		if err := removeTree(c.incoming(name)); err != nil {
			c.putAside(name, err)
		}
	}
	c.leftovers = nil
}

// discard removes a directory of .incoming that is not needed any more.
func (c *Catalog) discard(path string) {
	if err := removeTree(path); err != nil {
		c.putAside(filepath.Base(path), err)
	}
}

// putAside moves what is in .incoming and cannot be removed to .broken.
func (c *Catalog) putAside(name string, why error) {
	dir := filepath.Join(c.top, brokenDir)
	aside := filepath.Join(dir, fmt.Sprintf("%s.%d", name, c.now().UnixNano()))
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = os.Rename(c.incoming(name), aside)
	}
	c.log.Error("a leftover cannot be removed, it is put aside: remove it by hand", "name", name, "aside", aside, "err", errors.Join(why, err))
}

// reserve makes the caller the only one that changes the image.
func (c *Catalog) reserve(ref wire.ImageRef) (release func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy[ref] {
		return nil, fmt.Errorf("%s: %w", ref, ErrBusy)
	}
	c.busy[ref] = true
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.busy, ref)
	}, nil
}
