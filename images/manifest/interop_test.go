package manifest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edeploy/images/manifest"
	"edeploy/images/manifest/archive"
	"edeploy/images/manifest/internal/treetest"
	"edeploy/integration/needs"

	"github.com/google/go-cmp/cmp"
	"github.com/vbatts/go-mtree"
)

// go-mtree reads our text and finds the tree equal to it, with every keyword
// that it knows; it also sees a change.
func TestGoMtreeChecksOurText(t *testing.T) {
	root := t.TempDir()
	treetest.Hostile(t, root)
	m := treetest.Walk(t, root)
	hierarchy, err := mtree.ParseSpec(strings.NewReader(treetest.Text(t, m)))
	treetest.Must(t, err)
	keywords := mtree.ToKeywords([]string{"type", "mode", "uid", "gid", "size", "time", "link", "sha256digest"})
	found, err := mtree.Check(root, hierarchy, keywords, nil)
	treetest.Must(t, err)
	for _, delta := range found {
		t.Errorf("go-mtree: %s %s %v", delta.Type(), delta.Path(), delta.Diff())
	}
	treetest.Must(t, os.Chmod(filepath.Join(root, "usr/bin/su"), 0o755))
	found, err = mtree.Check(root, hierarchy, keywords, nil)
	treetest.Must(t, err)
	if len(found) != 1 || found[0].Path() != "usr/bin/su" {
		t.Errorf("go-mtree found %v, want the mode of usr/bin/su", found)
	}
}

func TestReadGoMtreeText(t *testing.T) {
	root := t.TempDir()
	treetest.Hostile(t, root)
	// go-mtree refuses device numbers on Linux, and its comments hold directory
	// names with line feeds as they are.
	for _, name := range []string{"dev", "odd/line\nbreak"} {
		treetest.Must(t, os.RemoveAll(filepath.Join(root, name)))
	}
	keywords := mtree.ToKeywords([]string{"type", "mode", "uid", "gid", "size", "time", "link", "sha256digest", "xattr"})
	hierarchy, err := mtree.Walk(root, nil, keywords, nil)
	treetest.Must(t, err)
	var b strings.Builder
	_, err = hierarchy.WriteTo(&b)
	treetest.Must(t, err)
	got, err := manifest.Read(strings.NewReader(b.String()))
	treetest.Must(t, err)
	want := treetest.Walk(t, root)
	for i := range want.Entries {
		want.Entries[i].Group = 0 // for which go-mtree has no keyword
	}
	// go-mtree reads attributes through symbolic links and of files only.
	treetest.Equal(t, treetest.WithoutXattrs(want), treetest.WithoutXattrs(got))
	ping, _ := got.Lookup("usr/bin/ping")
	if diff := cmp.Diff(treetest.Capability, ping.Xattrs["security.capability"]); diff != "" {
		t.Errorf("capability (-want +got):\n%s", diff)
	}
}

// libarchive reads our text as an archive, and its own text is read by us.
func TestLibarchive(t *testing.T) {
	bsdtar := needs.Program(t, "bsdtar")
	t.Log(strings.TrimSpace(treetest.Run(t, "", bsdtar, "--version")))
	root, dir := t.TempDir(), t.TempDir()
	treetest.Hostile(t, root)
	treetest.Must(t, os.Remove(filepath.Join(root, "dev/disk1"))) // libarchive keeps hard links of files only
	treetest.Must(t, os.Remove(filepath.Join(root, "var/dangling too")))
	treetest.Modern(t, root)
	m := treetest.Walk(t, root)

	ours := filepath.Join(dir, "ours.mtree")
	// libarchive 3.6 has no keyword for attributes and says so for every one.
	treetest.Must(t, os.WriteFile(ours, []byte(treetest.Text(t, treetest.WithoutXattrs(m))), 0o644))
	// The archive made from our text and the tree's files holds what we describe.
	packed := filepath.Join(dir, "from-ours.tar")
	treetest.Run(t, root, bsdtar, "-cf", packed, "--format=pax", "@"+ours)
	f, err := os.Open(packed)
	treetest.Must(t, err)
	defer f.Close()
	got, err := archive.Describe(f)
	treetest.Must(t, err)
	treetest.Equal(t, treetest.WithoutXattrs(m), treetest.WithoutXattrs(got))

	theirs := treetest.Run(t, root, bsdtar, "-cf", "-", "--format=mtree", "--options=mtree:all", ".")
	back, err := manifest.Read(strings.NewReader(theirs))
	treetest.Must(t, err)
	treetest.Equal(t, treetest.WithoutXattrs(m), treetest.WithoutXattrs(back))
}
