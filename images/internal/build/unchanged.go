package build

import (
	"archive/tar"
	"bufio"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"

	"edeploy/images/manifest"
	"edeploy/images/manifest/archive"
)

// maxUnchanged bounds a file that is kept in memory because only its time
// differs. The largest one is an initramfs.
const maxUnchanged = 512 << 20

// unchanged are the paths of a tree that are as they were in the image it
// starts from but for their times, with their times from there: what is written
// again with the same content is no change, and an upgrade need not touch it.
// It reads the tree from its start and leaves it there.
func (c recipe) unchanged(tree *os.File) ([]archive.AddedFile, error) {
	if c.archive == "" {
		return nil, nil
	}
	before, err := manifest.ReadFile(beside(c.archive, ".mtree"))
	if err != nil {
		return nil, err
	}
	after, err := archive.Describe(bufio.NewReaderSize(tree, 1<<20))
	if err != nil {
		return nil, err
	}
	if _, err := tree.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	kept := sameButTime(before, after)
	if err := readContents(tree, kept); err != nil {
		return nil, err
	}
	_, err = tree.Seek(0, io.SeekStart)
	return slices.Collect(maps.Values(kept)), err
}

// sameButTime finds the entries of after that differ from before in their time
// only. A directory counts when the same names are in it. Hard links keep the
// time that they have.
func sameButTime(before, after *manifest.Manifest) map[string]archive.AddedFile {
	differ := map[string]bool{}
	for _, d := range manifest.Diff(before, after) {
		if d.Attribute != manifest.AttrTime {
			differ[d.Path] = true
		}
		if d.Attribute == manifest.AttrMissing || d.Attribute == manifest.AttrExtra {
			differ[path.Dir(d.Path)] = true
		}
	}
	kept := map[string]archive.AddedFile{}
	for _, e := range after.Entries {
		old, ok := before.Lookup(e.Path)
		if ok && !differ[e.Path] && e.Group == 0 && old.Group == 0 && !old.ModTime.Equal(e.ModTime) && e.Size <= maxUnchanged {
			kept[e.Path] = archive.AddedFile{Entry: *old}
		}
	}
	return kept
}

// readContents fills in the contents of files from the tar of their tree.
func readContents(r io.Reader, kept map[string]archive.AddedFile) error {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		name := path.Clean(h.Name)
		k, ok := kept[name]
		if !ok || k.Entry.Type != manifest.File {
			continue
		}
		if k.Content, err = io.ReadAll(t); err != nil {
			return fmt.Errorf("%s: %w", manifest.Escape(name), err)
		}
		kept[name] = k
	}
}
