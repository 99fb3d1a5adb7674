package catalog

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"edeploy/images/manifest"
	"edeploy/server/api"
	"edeploy/server/wire"
)

// measured is what a manifest was found to be.
type measured struct {
	total manifest.Total
	err   error
}

// List names all images, complete or not, by version and role. What cannot be
// read is named with the reason, or in the log when it has no name.
func (c *Catalog) List() ([]api.Image, error) {
	versions, err := os.ReadDir(c.install(""))
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	images := []api.Image{}
	for _, v := range versions {
		if !v.IsDir() {
			continue
		}
		entries, err := os.ReadDir(c.install(v.Name()))
		if err != nil {
			c.log.Error("list images", "version", v.Name(), "err", err)
			continue
		}
		for _, ref := range refs(v.Name(), entries) {
			if image, err := c.Get(ref); err == nil { // else it was deleted meanwhile
				images = append(images, image)
			}
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
func (c *Catalog) Get(ref wire.ImageRef) (api.Image, error) {
	image := api.Image{ImageRef: ref}
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
	total, err := c.measure(c.install(ref.Manifest()), text)
	image.Published = text.ModTime().UTC()
	if err != nil {
		image.Broken = err.Error()
		return image, nil
	}
	image.Complete, image.Entries, image.Bytes = true, total.Entries, total.Bytes
	return image, nil
}

// measure reads a manifest once for as long as it does not change.
func (c *Catalog) measure(path string, info fs.FileInfo) (manifest.Total, error) {
	m, _ := c.manifests.get(path, info, func() (measured, error) {
		total, err := fromFile(path, manifest.Measure)
		if err != nil {
			c.log.Error("this image is broken", "manifest", path, "err", err)
		}
		return measured{total, err}, nil
	})
	return m.total, m.err
}

// remember keeps what a manifest is known to be.
func (c *Catalog) remember(path string, total manifest.Total) {
	if info, err := os.Stat(path); err == nil { // else it is measured when it is needed
		c.manifests.get(path, info, func() (measured, error) { return measured{total: total}, nil })
	}
}

// fromFile reads a manifest's file, of whose path errors have the last name only.
func fromFile[T any](path string, read func(io.Reader) (T, error)) (T, error) {
	f, err := os.Open(path)
	if err != nil {
		return *new(T), err
	}
	defer f.Close()
	v, err := read(f)
	if err != nil {
		err = fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return v, err
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
	for _, path := range []string{ref.Manifest(), ref.Tree(), ref.Archive()} { // without its manifest it is not complete
		if err := os.Rename(c.install(path), filepath.Join(trash, filepath.Base(path))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	os.Remove(c.install(ref.Version)) // succeeds when this was the last image of the version
	c.discard(trash)
	return nil
}
