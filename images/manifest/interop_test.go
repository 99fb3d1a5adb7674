package manifest_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"edeploy/images/manifest"
	"edeploy/integration/needs"

	"github.com/google/go-cmp/cmp"
	"github.com/vbatts/go-mtree"
)

// go-mtree reads our text and finds the tree equal to it, with every keyword
// that it knows; it also sees a change.
func TestGoMtreeChecksOurText(t *testing.T) {
	root := t.TempDir()
	hostileTree(t, root)
	m := walk(t, root)
	hierarchy, err := mtree.ParseSpec(strings.NewReader(text(t, m)))
	must(t, err)
	keywords := mtree.ToKeywords([]string{"type", "mode", "uid", "gid", "size", "time", "link", "sha256digest"})
	found, err := mtree.Check(root, hierarchy, keywords, nil)
	must(t, err)
	for _, delta := range found {
		t.Errorf("go-mtree: %s %s %v", delta.Type(), delta.Path(), delta.Diff())
	}
	must(t, os.Chmod(filepath.Join(root, "usr/bin/su"), 0o755))
	found, err = mtree.Check(root, hierarchy, keywords, nil)
	must(t, err)
	if len(found) != 1 || found[0].Path() != "usr/bin/su" {
		t.Errorf("go-mtree found %v, want the mode of usr/bin/su", found)
	}
}

func TestReadGoMtreeText(t *testing.T) {
	root := t.TempDir()
	hostileTree(t, root)
	// go-mtree refuses device numbers on Linux, and its comments hold directory
	// names with line feeds as they are.
	for _, name := range []string{"dev", "odd/line\nbreak"} {
		must(t, os.RemoveAll(filepath.Join(root, name)))
	}
	keywords := mtree.ToKeywords([]string{"type", "mode", "uid", "gid", "size", "time", "link", "sha256digest", "xattr"})
	hierarchy, err := mtree.Walk(root, nil, keywords, nil)
	must(t, err)
	var b strings.Builder
	_, err = hierarchy.WriteTo(&b)
	must(t, err)
	got, err := manifest.Read(strings.NewReader(b.String()))
	must(t, err)
	want := walk(t, root)
	for i := range want.Entries {
		want.Entries[i].Group = 0 // for which go-mtree has no keyword
	}
	// go-mtree reads attributes through symbolic links and of files only.
	wantEqual(t, withoutXattrs(want), withoutXattrs(got))
	ping, _ := got.Lookup("usr/bin/ping")
	if diff := cmp.Diff(capability, ping.Xattrs["security.capability"]); diff != "" {
		t.Errorf("capability (-want +got):\n%s", diff)
	}
}

func withoutXattrs(m *manifest.Manifest) *manifest.Manifest {
	entries := slices.Clone(m.Entries)
	for i := range entries {
		entries[i].Xattrs = nil
	}
	return &manifest.Manifest{Entries: entries}
}

// libarchive reads our text as an archive, and its own text is read by us.
func TestLibarchive(t *testing.T) {
	bsdtar := needs.Program(t, "bsdtar")
	t.Log(strings.TrimSpace(run(t, "", bsdtar, "--version")))
	root, dir := t.TempDir(), t.TempDir()
	hostileTree(t, root)
	must(t, os.Remove(filepath.Join(root, "dev/disk1"))) // libarchive keeps hard links of files only
	must(t, os.Remove(filepath.Join(root, "var/dangling too")))
	modern(t, root)
	m := walk(t, root)

	ours := filepath.Join(dir, "ours.mtree")
	// libarchive 3.6 has no keyword for attributes and says so for every one.
	must(t, os.WriteFile(ours, []byte(text(t, withoutXattrs(m))), 0o644))
	// The archive made from our text and the tree's files holds what we describe.
	archive := filepath.Join(dir, "from-ours.tar")
	run(t, root, bsdtar, "-cf", archive, "--format=pax", "@"+ours)
	f, err := os.Open(archive)
	must(t, err)
	defer f.Close()
	got, err := manifest.FromTar(f, manifest.Options{})
	must(t, err)
	wantEqual(t, withoutXattrs(m), withoutXattrs(got))

	theirs := run(t, root, bsdtar, "-cf", "-", "--format=mtree", "--options=mtree:all", ".")
	back, err := manifest.Read(strings.NewReader(theirs))
	must(t, err)
	wantEqual(t, withoutXattrs(m), withoutXattrs(back))
}
