package plan_test

import (
	"os"
	"path/filepath"
	"testing"

	"edeploy/agent/internal/filter"
	"edeploy/agent/internal/plan"
	"edeploy/images/manifest"

	"github.com/google/go-cmp/cmp"
)

// TestScan shows what is looked at: not what lies below hidden directories,
// unless the target has it, and nothing behind a link.
func TestScan(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"usr/bin/app", "var/lib/app/db", "var/lib/app/schema1", "var/log/app/today"} {
		must(t, os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o755))
		must(t, os.WriteFile(filepath.Join(root, name), []byte("x"), 0o644))
	}
	must(t, os.Symlink("../../usr", filepath.Join(root, "var/lib/link")))
	target := tree(t, "usr/bin/app var/lib/app/db var/lib/app/schema2 var/lib/link/bin/app var/log/app/")
	exclude, err := filter.Parse("/var/lib/*\n/var/log/\n", filter.Exclude)
	must(t, err)
	disk, err := plan.Scan(t.Context(), root, target, exclude, nil)
	must(t, err)
	got := map[string]bool{}
	for _, e := range disk.Entries {
		got[e.Path] = e.SHA256 != [32]byte{} // the content was read
	}
	want := map[string]bool{".": false, "usr": false, "usr/bin": false, "usr/bin/app": true, "var": false, "var/lib": false,
		"var/lib/app": false, "var/lib/app/db": false, "var/lib/link": false, "var/log": false, "var/log/app": false}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("paths on the disk, true when read (-want +got):\n%s", diff)
	}
	if e, _ := disk.Lookup("var/lib/link"); e.Type != manifest.Symlink || e.Link != "../../usr" {
		t.Errorf("the link is described as %+v", e)
	}
	if _, err := plan.Scan(t.Context(), filepath.Join(root, "nowhere"), target, exclude, nil); err == nil {
		t.Error("Scan of no directory succeeded")
	}
}
