package initrd

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"edeploy/images/manifest"
	treearchive "edeploy/images/manifest/archive"
	"edeploy/initrd/internal/archive"
	"edeploy/initrd/internal/pick"
	"edeploy/initrd/internal/tree"
)

// addonLists are the lists of add-ons, in the form of tools.txt, each in the
// file of its name.
//
//go:embed addons/*.txt
var addonLists embed.FS

// writeAddons writes the archive and the manifest of each add-on: what its list
// asks for, and the initrd has not.
func writeAddons(ctx context.Context, dir string, t *tree.Tree, initrd []string) error {
	lists, err := fs.Glob(addonLists, "addons/*.txt")
	if err != nil {
		return err
	}
	for _, file := range lists {
		text, err := addonLists.ReadFile(file)
		if err != nil {
			return err
		}
		name := strings.TrimSuffix(path.Base(file), ".txt")
		if err := writeAddon(ctx, filepath.Join(dir, name), string(text), t, initrd); err != nil {
			return fmt.Errorf("add-on %s: %w", name, err)
		}
	}
	return nil
}

func writeAddon(ctx context.Context, stem, list string, t *tree.Tree, initrd []string) error {
	lines, err := pick.ParseList(list)
	if err != nil {
		return err
	}
	names, err := pick.Pick(t, lines)
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return slices.Contains(initrd, name) })
	var plain, text bytes.Buffer
	m, err := treearchive.Normalize(ctx, &plain, strings.NewReader(""), treearchive.NormalizeOptions{Add: withDirectories(t, names)})
	if err != nil {
		return err
	}
	if _, err := m.WriteTo(&text); err != nil {
		return err
	}
	packed, err := archive.Compress(plain.Bytes())
	if err != nil {
		return err
	}
	return errors.Join(replace(stem+".mtree", text.Bytes()), replace(stem+".edeploy", packed))
}

// withDirectories are files of the tree and the directories above them. Owners
// are root's, and the time is always the same one.
func withDirectories(t *tree.Tree, names []string) []treearchive.AddedFile {
	added := map[string]treearchive.AddedFile{}
	for _, name := range names {
		entry, _ := t.Get(name)
		added[name] = addedFile(name, entry)
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			added[dir] = addedFile(dir, tree.Entry{Mode: fs.ModeDir})
		}
	}
	return slices.Collect(maps.Values(added))
}

func addedFile(name string, from tree.Entry) treearchive.AddedFile {
	e := manifest.Entry{Path: name, Type: manifest.File, Mode: uint32(from.Mode & 0o755), ModTime: time.Unix(0, 0).UTC()}
	switch {
	case from.Mode.IsDir():
		e.Type, e.Mode = manifest.Dir, 0o755
	case from.Mode&fs.ModeSymlink != 0:
		e.Type, e.Link = manifest.Symlink, from.Link
	}
	return treearchive.AddedFile{Entry: e, Content: from.Data}
}
