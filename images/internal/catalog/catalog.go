// Package catalog keeps the role images of an appliance:
//
//	TOP/install/VERSION/ROLE/                  tree
//	TOP/install/VERSION/ROLE-VERSION.mtree     manifest; an image is complete when tree and manifest are there
//	TOP/install/VERSION/ROLE-VERSION.edeploy   archive
//	TOP/metadata/FROM/ROLE/TO/                 upgrade metadata
//	TOP/.incoming/                             uploads and trees being unpacked, never served
package catalog

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"edeploy/images/manifest"
	"edeploy/server/wire"

	"github.com/google/renameio/v2"
)

// Directories below TOP.
const (
	InstallDir  = "install"
	MetadataDir = "metadata"
	incomingDir = ".incoming"
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

// Image is one version of one role as the appliance has it.
type Image struct {
	wire.ImageRef
	Complete     bool      `json:"complete"`                // tree and manifest are there
	Entries      int       `json:"entries,omitempty"`       // of the tree
	Bytes        int64     `json:"bytes,omitempty"`         // of the tree's files
	ArchiveBytes int64     `json:"archive_bytes,omitempty"` // 0: no archive
	Published    time.Time `json:"published,omitzero"`      // when the manifest came
}

// Catalog is the directory TOP. Its methods may be called at once.
type Catalog struct {
	top      string
	log      *slog.Logger
	now      func() time.Time
	metadata directory

	mu    sync.Mutex
	busy  map[wire.ImageRef]bool
	sizes map[string]manifestSize // by manifest path

	unpacking chan struct{} // one tree is unpacked at a time
}

type manifestSize struct {
	modified time.Time
	size     int64
	entries  int
	bytes    int64
}

// Open makes the directories below top and throws away what crashed imports
// and forgotten uploads left. A nil logger is silent.
func Open(top string, log *slog.Logger) (*Catalog, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c := &Catalog{top: top, log: log, now: time.Now, busy: map[wire.ImageRef]bool{},
		sizes: map[string]manifestSize{}, unpacking: make(chan struct{}, 1)}
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
	return c, c.clean()
}

// Dir is the directory of an rsync module or URL prefix: InstallDir or MetadataDir.
func (c *Catalog) Dir(name string) string { return filepath.Join(c.top, name) }

func (c *Catalog) install(name string) string  { return filepath.Join(c.top, InstallDir, name) }
func (c *Catalog) incoming(name string) string { return filepath.Join(c.top, incomingDir, name) }

// clean removes half-unpacked and half-deleted trees, and stale uploads.
func (c *Catalog) clean() error {
	entries, err := os.ReadDir(c.incoming(""))
	if err != nil {
		return fmt.Errorf("open catalog: %w", err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return fmt.Errorf("open catalog: %w", err)
		}
		if !e.IsDir() && c.now().Sub(info.ModTime()) < staleUpload {
			continue
		}
		c.log.Info("remove leftover of an unfinished import", "name", e.Name())
		if err := os.RemoveAll(c.incoming(e.Name())); err != nil {
			return fmt.Errorf("open catalog: %w", err)
		}
	}
	return nil
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

// List names all images, complete or not, by version and role.
func (c *Catalog) List() ([]Image, error) {
	versions, err := os.ReadDir(c.install(""))
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	images := []Image{}
	for _, v := range versions {
		if !v.IsDir() {
			continue
		}
		entries, err := os.ReadDir(c.install(v.Name()))
		if err != nil {
			return nil, fmt.Errorf("list images: %w", err)
		}
		for _, ref := range refs(v.Name(), entries) {
			image, err := c.Get(ref)
			if errors.Is(err, ErrNotFound) {
				continue // deleted meanwhile
			}
			if err != nil {
				return nil, err
			}
			images = append(images, image)
		}
	}
	return images, nil
}

// refs finds the images among the entries of a version's directory.
func refs(version string, entries []fs.DirEntry) []wire.ImageRef {
	var found []wire.ImageRef
	for _, e := range entries {
		role := e.Name()
		if !e.IsDir() {
			stem, ok := strings.CutSuffix(role, ".edeploy")
			if !ok {
				continue
			}
			if role, ok = strings.CutSuffix(stem, "-"+version); !ok {
				continue
			}
		}
		ref, err := wire.NewImageRef(role, version)
		if err == nil && !slices.Contains(found, ref) {
			found = append(found, ref)
		}
	}
	slices.SortFunc(found, func(a, b wire.ImageRef) int { return strings.Compare(a.Role, b.Role) })
	return found
}

// Get describes one image; the error wraps ErrNotFound when nothing of it is there.
func (c *Catalog) Get(ref wire.ImageRef) (Image, error) {
	image := Image{ImageRef: ref}
	tree, treeErr := os.Stat(c.install(ref.Tree()))
	text, textErr := os.Stat(c.install(ref.Manifest()))
	archive, archiveErr := os.Stat(c.install(ref.Archive()))
	if treeErr != nil && textErr != nil && archiveErr != nil {
		return image, fmt.Errorf("%s: %w", ref, ErrNotFound)
	}
	if archiveErr == nil {
		image.ArchiveBytes = archive.Size()
	}
	if textErr != nil || treeErr != nil || !tree.IsDir() {
		return image, nil
	}
	size, err := c.size(c.install(ref.Manifest()), text)
	if err != nil {
		return image, err
	}
	image.Complete, image.Published = true, text.ModTime().UTC()
	image.Entries, image.Bytes = size.entries, size.bytes
	return image, nil
}

// size reads a manifest once for as long as it does not change.
func (c *Catalog) size(path string, info fs.FileInfo) (manifestSize, error) {
	c.mu.Lock()
	known, ok := c.sizes[path]
	c.mu.Unlock()
	if ok && known.modified.Equal(info.ModTime()) && known.size == info.Size() {
		return known, nil
	}
	m, err := readManifest(path)
	if err != nil {
		return manifestSize{}, err
	}
	known = manifestSize{info.ModTime(), info.Size(), len(m.Entries), m.TotalBytes()}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sizes[path] = known
	return known, nil
}

func readManifest(path string) (*manifest.Manifest, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, err := manifest.Read(bufio.NewReader(f))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Base(path), err)
	}
	return m, nil
}

// Describe writes the manifests of trees that have none, such as those brought
// from an original eDeploy. A tree that cannot be described is logged and left.
func (c *Catalog) Describe(ctx context.Context) error {
	images, err := c.List()
	if err != nil {
		return err
	}
	for _, image := range images {
		if image.Complete {
			continue
		}
		if info, err := os.Stat(c.install(image.Tree())); err != nil || !info.IsDir() {
			continue
		}
		start := c.now()
		c.log.Info("describe a tree that has no manifest", "image", image.String())
		err := c.describe(ctx, image.ImageRef)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			c.log.Error("describe a tree that has no manifest", "image", image.String(), "err", err)
			continue
		}
		c.log.Info("image is complete", "image", image.String(), "seconds", c.now().Sub(start).Seconds())
	}
	return nil
}

func (c *Catalog) describe(ctx context.Context, ref wire.ImageRef) error {
	release, err := c.reserve(ref)
	if err != nil {
		return err
	}
	defer release()
	m, err := manifest.Walk(ctx, c.install(ref.Tree()), manifest.Options{Workers: 1})
	if err != nil {
		return err
	}
	return writeManifest(c.install(ref.Manifest()), m)
}

func writeManifest(path string, m *manifest.Manifest) error {
	f, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o644))
	if err != nil {
		return err
	}
	defer f.Cleanup()
	w := bufio.NewWriter(f)
	if _, err := m.WriteTo(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}

// Delete removes the image: first it disappears, then its files are removed.
func (c *Catalog) Delete(ref wire.ImageRef) error {
	release, err := c.reserve(ref)
	if err != nil {
		return err
	}
	defer release()
	if _, err := c.Get(ref); err != nil {
		return err
	}
	trash, err := os.MkdirTemp(c.incoming(""), "delete-")
	if err != nil {
		return err
	}
	for name, path := range map[string]string{"manifest": ref.Manifest(), "tree": ref.Tree(), "archive": ref.Archive()} {
		if err := os.Rename(c.install(path), filepath.Join(trash, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	os.Remove(c.install(ref.Version)) // succeeds when this was the last image of the version
	return os.RemoveAll(trash)
}
