package catalog_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"edeploy/images/internal/catalog"
	"edeploy/server/api"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
)

var from = wire.ImageRef{Role: "mysql", Version: "V1"}

// member is one member of a tar: content, or a directory ("dir") or another type.
type member struct {
	name, content string
	mode          int64
	kind          byte
}

func tarOf(t *testing.T, members ...member) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Mode: m.mode, Typeflag: m.kind, Size: int64(len(m.content))}
		if m.kind == tar.TypeSymlink {
			h.Linkname, h.Size = m.content, 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write([]byte(m.content)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

var (
	exclude = member{"./exclude", "/home/\n", 0o600, tar.TypeReg}
	addOnly = member{"./add_only", "+ /var/\n- *\n", 0o644, tar.TypeReg}
	post    = member{"./post", "#!/bin/sh\nexit 100\n", 0o700, tar.TypeReg}
	top     = member{"./", "", 0o700, tar.TypeDir}
)

func open(t *testing.T) (*catalog.Catalog, string) {
	t.Helper()
	dir := t.TempDir()
	c, err := catalog.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c, dir
}

// shown is an upgrade as a text.
func shown(u api.Upgrade) string {
	var files []string
	for _, f := range u.Files {
		files = append(files, fmt.Sprintf("%s %s %d", f.Name, f.Mode, f.Bytes))
	}
	return strings.TrimSpace(u.From + " " + u.Role + " " + u.To + ": " + strings.Join(files, ", ") + " " + string(u.State))
}

func TestPutUpgrade(t *testing.T) {
	c, dir := open(t)
	put := func(onlyNew bool, members ...member) string {
		t.Helper()
		u, err := c.PutUpgrade(t.Context(), from, "V2", tarOf(t, members...), onlyNew)
		if err != nil {
			return err.Error()
		}
		return shown(u)
	}
	want := "V1 mysql V2: add_only 0644 12, exclude 0644 7, post 0755 19 "
	tests := []struct {
		name, got, want string
	}{
		{"first", put(true, top, exclude, addOnly, post), want + "new"},
		{"again", put(true, post, addOnly, exclude), want + "same"},
		{"another, not wanted", put(true, exclude, addOnly), "mysql V1 to V2: another upgrade of this name is there already"},
		{"another", put(false, exclude, addOnly, member{"data/x", "y", 0o644, tar.TypeReg}),
			"V1 mysql V2: add_only 0644 12, data/x 0644 1, exclude 0644 7 replaced"},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, tt.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
	if left, err := os.ReadDir(filepath.Join(dir, ".incoming")); err != nil || len(left) > 0 {
		t.Errorf("left in .incoming: %v, %v", left, err)
	}
}

func TestRefusedUpgrades(t *testing.T) {
	file := func(name, content string, mode int64) member { return member{name, content, mode, tar.TypeReg} }
	many := []member{exclude, addOnly}
	for i := range 1000 {
		many = append(many, file(fmt.Sprint(i), "", 0o644))
	}
	var implied []member
	for i := range 100 {
		implied = append(implied, file(fmt.Sprint(i)+strings.Repeat("/d", 14), "", 0o644))
	}
	tests := []struct {
		name    string
		members []member
		to      string
		want    string
	}{
		{"no exclude", []member{addOnly}, "V2", "exclude is missing"},
		{"no add_only", []member{exclude}, "V2", "add_only is missing"},
		{"empty add_only", []member{exclude, file("add_only", "# nothing\n\n", 0o644)}, "V2", "add_only has no rule"},
		{"forgotten add_only", []member{exclude, file("add_only", "- *\n!\n", 0o644)}, "V2", "add_only has no rule"},
		{"rule without pattern", []member{file("exclude", "/a\n- \n", 0o644), addOnly}, "V2", `exclude: line 2: "- " has no pattern`},
		{"zero byte", []member{file("exclude", "a\x00b\n", 0o644), addOnly}, "V2", "exclude: line 1 has a zero byte"},
		{"long pattern", []member{file("exclude", strings.Repeat("a", 4096), 0o644), addOnly}, "V2", "4096 bytes"},
		{"directory as exclude", []member{{"exclude", "", 0o755, tar.TypeDir}, addOnly}, "V2", "exclude is not a file"},
		{"post not executable", []member{exclude, addOnly, file("post", "#!/bin/sh\n", 0o644)}, "V2", "post is not executable"},
		{"all at once", []member{file("exclude", "- \n/a\n+ \n", 0o644), file("post", "", 0o644)}, "V2",
			`exclude: line 1: "- " has no pattern; exclude: line 3: "+ " has no pattern; add_only is missing: a line "- *" says that nothing is added; post is not executable, it would not run: chmod +x post`},
		{"deep", []member{exclude, addOnly, file(strings.Repeat("d/", 16)+"x", "", 0o644)}, "V2", "below more than 15 directories"},
		{"long", []member{exclude, addOnly, file(strings.Repeat("long/", 200)+"x", "", 0o644)}, "V2", "more than 1000 bytes"},
		{"many implied", implied, "V2", "more than 1000 files and directories"},
		{"link", []member{exclude, addOnly, {"post", "/bin/true", 0o777, tar.TypeSymlink}}, "V2", `"post" is neither a file nor a directory`},
		{"device", []member{exclude, addOnly, {"null", "", 0o666, tar.TypeChar}}, "V2", "neither a file nor a directory"},
		{"climbing", []member{exclude, addOnly, file("../../x", "", 0o644)}, "V2", "escapes"},
		{"absolute", []member{exclude, addOnly, file("/x", "", 0o644)}, "V2", "escapes"},
		{"twice", []member{exclude, addOnly, exclude}, "V2", "file exists"},
		{"large", []member{exclude, addOnly, file("x", strings.Repeat("x", 8<<20), 0o644)}, "V2", "larger than 8 MB"},
		{"many", many, "V2", "more than 1000 files"},
		{"to itself", []member{exclude, addOnly}, "V1", "to itself"},
		{"bad version", []member{exclude, addOnly}, "..", `starts with "."`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, dir := open(t)
			_, err := c.PutUpgrade(t.Context(), from, tt.to, tarOf(t, tt.members...), false)
			if !errors.Is(err, catalog.ErrInvalid) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
			for _, name := range []string{"metadata", ".incoming"} {
				if left, err := os.ReadDir(filepath.Join(dir, name)); err != nil || len(left) > 0 {
					t.Errorf("left in %s: %v, %v", name, left, err)
				}
			}
		})
	}
	c, _ := open(t)
	if _, err := c.PutUpgrade(t.Context(), from, "V2", strings.NewReader("no tar"), false); !errors.Is(err, catalog.ErrInvalid) {
		t.Errorf("no tar: %v", err)
	}
	whole := tarOf(t, exclude, addOnly, post).Bytes()
	if _, err := c.PutUpgrade(t.Context(), from, "V2", bytes.NewReader(whole[:1600]), false); !errors.Is(err, catalog.ErrInvalid) {
		t.Errorf("half of it: %v", err)
	}
}

// What the client runs is taken: a script without "#!" is one for its shell.
func TestScriptWithoutInterpreter(t *testing.T) {
	c, _ := open(t)
	u, err := c.PutUpgrade(t.Context(), from, "V2", tarOf(t, exclude, addOnly, member{"pre", "systemctl stop mysql\n", 0o755, tar.TypeReg}), false)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("V1 mysql V2: add_only 0644 12, exclude 0644 7, pre 0755 21 new", shown(u)); diff != "" {
		t.Errorf("upgrade (-want +got):\n%s", diff)
	}
}

// Content that is large when it is unpacked is given up early, and when the
// client is gone, whatever its packed size.
func TestBombedUpgrade(t *testing.T) {
	c, dir := open(t)
	var packed bytes.Buffer
	z, err := zstd.NewWriter(&packed)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	if err := w.WriteHeader(&tar.Header{Name: "exclude", Typeflag: tar.TypeReg, Mode: 0o644, Size: 10 << 30}); err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, 1<<20)
	for range 200 {
		if _, err := w.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, want string
		body       io.Reader
	}{
		{"content", "larger than 8 MB", bytes.NewReader(packed.Bytes())},
		{"behind the end", "larger than 8 MB", io.MultiReader(tarOf(t, exclude, addOnly), bytes.NewReader(make([]byte, 20<<20)))},
	}
	for _, tt := range tests {
		if _, err := c.PutUpgrade(t.Context(), from, "V2", tt.body, false); !errors.Is(err, catalog.ErrInvalid) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	wide, err := zstd.NewWriter(nil, zstd.WithWindowSize(32<<20), zstd.WithSingleSegment(false))
	if err != nil {
		t.Fatal(err)
	}
	large := wide.EncodeAll(make([]byte, 64<<20), nil)
	if _, err := c.PutUpgrade(t.Context(), from, "V2", bytes.NewReader(large), false); !errors.Is(err, zstd.ErrWindowSizeExceeded) || !strings.Contains(err.Error(), "16 MB of memory to unpack, pack it with zstd --long=23 or less") {
		t.Errorf("a window of 32 MB: %v, want %v", err, zstd.ErrWindowSizeExceeded)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.PutUpgrade(gone, from, "V2", tarOf(t, exclude, addOnly), false); !errors.Is(err, context.Canceled) {
		t.Errorf("for a client that is gone: %v", err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, ".incoming")); err != nil || len(left) > 0 {
		t.Errorf("left in .incoming: %v, %v", left, err)
	}
}

// A refused one leaves the one that was there.
func TestRefusedUpgradeKeepsTheOld(t *testing.T) {
	c, _ := open(t)
	for _, members := range [][]member{{exclude, addOnly, post}, {exclude}} {
		c.PutUpgrade(t.Context(), from, "V2", tarOf(t, members...), false)
	}
	u, err := c.Upgrade(from, "V2")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("V1 mysql V2: add_only 0644 12, exclude 0644 7, post 0755 19", shown(u)); diff != "" {
		t.Errorf("upgrade (-want +got):\n%s", diff)
	}
}

func TestListAndDeleteUpgrades(t *testing.T) {
	c, dir := open(t)
	for _, name := range []string{"V1 mysql V2", "V1 mysql V3", "V1 base V2", "V2 mysql V3"} {
		w := strings.Fields(name)
		if _, err := c.PutUpgrade(t.Context(), wire.ImageRef{Role: w[1], Version: w[0]}, w[2], tarOf(t, exclude, addOnly), false); err != nil {
			t.Fatal(err)
		}
	}
	// As in an original tree: V0 is upgraded like V1. Other things are passed over.
	if err := os.Symlink("V1", filepath.Join(dir, "metadata", "V0")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "metadata", "README"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "metadata", "V1", ".git", "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	list := func() []string {
		t.Helper()
		all, err := c.Upgrades()
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, u := range all {
			names = append(names, u.From+" "+u.Role+" "+u.To)
		}
		return names
	}
	want := []string{"V0 base V2", "V0 mysql V2", "V0 mysql V3", "V1 base V2", "V1 mysql V2", "V1 mysql V3", "V2 mysql V3"}
	if diff := cmp.Diff(want, list()); diff != "" {
		t.Errorf("all (-want +got):\n%s", diff)
	}
	if err := c.DeleteUpgrade(from, "V2"); err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteUpgrade(wire.ImageRef{Role: "mysql", Version: "V2"}, "V3"); err != nil {
		t.Fatal(err)
	}
	want = slices.DeleteFunc(want, func(n string) bool { return n == "V0 mysql V2" || n == "V1 mysql V2" || n == "V2 mysql V3" })
	if diff := cmp.Diff(want, list()); diff != "" {
		t.Errorf("after deleting (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(filepath.Join(dir, "metadata", "V2")); !os.IsNotExist(err) {
		t.Errorf("the directory of a version without upgrades: %v", err)
	}
	if err := c.DeleteUpgrade(from, "V2"); !errors.Is(err, catalog.ErrNoUpgrade) {
		t.Errorf("deleting again: %v", err)
	}
	through := wire.ImageRef{Role: "mysql", Version: "V0"}
	if err := c.DeleteUpgrade(through, "V3"); !errors.Is(err, catalog.ErrInvalid) || !strings.Contains(err.Error(), "V0 is a link to V1") {
		t.Errorf("deleting through a link: %v", err)
	}
	if _, err := c.PutUpgrade(t.Context(), through, "V9", tarOf(t, exclude, addOnly), false); !errors.Is(err, catalog.ErrInvalid) {
		t.Errorf("putting through a link: %v", err)
	}
	if none, err := c.UpgradesFrom(wire.ImageRef{Role: "web", Version: "V1"}); err != nil || len(none) > 0 {
		t.Errorf("upgrades of an unknown role: %v, %v", none, err)
	}
}

// The metadata of all upgrades is bounded, and gives way when some is deleted.
func TestManyUpgrades(t *testing.T) {
	c, dir := open(t)
	large := filepath.Join(dir, "metadata/V1/mysql/V9/data")
	if err := os.MkdirAll(filepath.Dir(large), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(large, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, 257<<20); err != nil {
		t.Fatal(err)
	}
	put := func() error {
		_, err := c.PutUpgrade(t.Context(), from, "V2", tarOf(t, exclude, addOnly), false)
		return err
	}
	if err := put(); !errors.Is(err, catalog.ErrNoSpace) || !strings.Contains(err.Error(), "remove upgrades") {
		t.Errorf("beside 257 MB: %v", err)
	}
	if err := c.DeleteUpgrade(from, "V9"); err != nil {
		t.Fatal(err)
	}
	if err := put(); err != nil {
		t.Error(err)
	}
}

// Sums are kept, but not those of files that changed.
func TestUpgradeChangedByHand(t *testing.T) {
	c, dir := open(t)
	if _, err := c.PutUpgrade(t.Context(), from, "V2", tarOf(t, exclude, addOnly), false); err != nil {
		t.Fatal(err)
	}
	sums := func() [2]string {
		t.Helper()
		u, err := c.Upgrade(from, "V2")
		if err != nil || len(u.Files) != 2 {
			t.Fatalf("%+v, %v", u, err)
		}
		return [2]string{u.Files[0].SHA256, u.Files[1].SHA256}
	}
	before := sums()
	if again := sums(); again != before {
		t.Errorf("sums %v, then %v", before, again)
	}
	if err := os.WriteFile(filepath.Join(dir, "metadata/V1/mysql/V2/exclude"), []byte("/root/\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if after := sums(); after[0] != before[0] || after[1] == before[1] {
		t.Errorf("sums %v, after exclude was changed %v", before, after)
	}
}

// Links that lead out of the directory are not followed.
func TestUpgradeOutside(t *testing.T) {
	c, dir := open(t)
	secret := filepath.Join(dir, "secret", "mysql", "V2")
	if err := os.MkdirAll(secret, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../secret", filepath.Join(dir, "metadata", "V1")); err != nil {
		t.Fatal(err)
	}
	if u, err := c.Upgrade(from, "V2"); err == nil {
		t.Errorf("an upgrade outside of the directory is shown: %v", u)
	}
	if _, err := c.PutUpgrade(t.Context(), from, "V3", tarOf(t, exclude, addOnly), false); err == nil {
		t.Error("an upgrade is written outside of the directory")
	}
	if all, err := c.Upgrades(); err != nil || len(all) > 0 {
		t.Errorf("all upgrades: %v, %v", all, err)
	}
}

// Whatever is sent, nothing appears but a checked upgrade in its place.
func FuzzPutUpgrade(f *testing.F) {
	whole := func(members ...member) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, m := range members {
			w.WriteHeader(&tar.Header{Name: m.name, Mode: m.mode, Typeflag: m.kind, Size: int64(len(m.content))})
			w.Write([]byte(m.content))
		}
		w.Close()
		return b.Bytes()
	}
	f.Add(whole(top, exclude, addOnly, post))
	f.Add(whole(exclude, member{"../add_only", "- *\n", 0o644, tar.TypeReg}))
	f.Add([]byte("\x28\xb5\x2f\xfd"))
	f.Fuzz(func(t *testing.T, body []byte) {
		c, dir := open(t)
		u, err := c.PutUpgrade(t.Context(), from, "V2", bytes.NewReader(body), false)
		got, readErr := os.ReadDir(filepath.Join(dir, "metadata"))
		if readErr != nil {
			t.Fatal(readErr)
		}
		if err != nil && len(got) > 0 {
			t.Errorf("refused (%v), but %v is there", err, got)
		}
		if err == nil && (len(got) != 1 || len(u.Files) < 2) {
			t.Errorf("accepted %v, and %v is there", u, got)
		}
		if all, err := os.ReadDir(dir); err != nil || len(all) != 3 {
			t.Errorf("beside install, metadata and .incoming: %v, %v", all, err)
		}
	})
}
