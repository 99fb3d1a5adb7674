package build

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edeploy/images/internal/role"
	"edeploy/images/manifest/archive"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

// roles writes role definitions, and an archive of each image that is named.
func roles(t *testing.T, files map[string]string, images ...string) Build {
	t.Helper()
	b := Build{Roles: role.Path{t.TempDir()}, Out: t.TempDir()}
	for name, text := range files {
		file := filepath.Join(b.Roles[0], name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, image := range images {
		name, version, _ := strings.Cut(image, " ")
		file := filepath.Join(b.Out, wire.ImageRef{Role: name, Version: version}.Archive())
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func TestRecipe(t *testing.T) {
	definitions := map[string]string{
		"base/role.yaml":                  "suite: bookworm\nkernel: linux-image-a\npackages: [ssh]\n",
		"web/role.yaml":                   "base: base\npackages: [nginx]\n",
		"web/files/etc/initramfs-tools/x": "",
		"web/versions/V2/version.yaml":    "from: V1\nkernel: linux-image-b\nupgrade: [nginx*]\npackages: [vim]\n",
	}
	tests := []struct {
		name      string
		build     Build
		image     wire.ImageRef
		want      string // archive, kernel, packages, upgrade
		err       string
		initramfs bool
		isDerived bool
	}{
		{name: "packages alone", image: wire.ImageRef{Role: "base", Version: "V1"}, want: " linux-image-a ssh []"},
		{name: "other kernel", build: Build{Kernel: "linux-image-c"}, image: wire.ImageRef{Role: "base", Version: "V1"}, want: " linux-image-c ssh []"},
		{name: "base role", image: wire.ImageRef{Role: "web", Version: "V1"}, want: "V1/base-V1.edeploy  nginx []", initramfs: true},
		{name: "base role of another version", build: Build{Base: "V1"}, image: wire.ImageRef{Role: "web", Version: "V9"}, want: "V1/base-V1.edeploy  nginx []", initramfs: true},
		{name: "as the version says", image: wire.ImageRef{Role: "web", Version: "V2"}, want: "V1/web-V1.edeploy linux-image-b vim [nginx*]",
			initramfs: true, isDerived: true},
		{name: "from another one", build: Build{From: "V3"}, image: wire.ImageRef{Role: "web", Version: "V2"}, want: "V3/web-V3.edeploy linux-image-b vim [nginx*]",
			initramfs: true, isDerived: true},
		{name: "everything newest", build: Build{From: "V1"}, image: wire.ImageRef{Role: "base", Version: "V4"}, want: "V1/base-V1.edeploy   [*]", isDerived: true},
		{name: "not built", build: Build{From: "V7"}, image: wire.ImageRef{Role: "web", Version: "V8"}, err: "web V8 starts from web V7, which is not built"},
		{name: "itself", build: Build{From: "V1"}, image: wire.ImageRef{Role: "web", Version: "V1"}, err: "web V1 starts from itself"},
		{name: "bad version", build: Build{From: "../V1"}, image: wire.ImageRef{Role: "web", Version: "V8"}, err: `starts with "."`},
		{name: "no such role", image: wire.ImageRef{Role: "db", Version: "V1"}, err: "no such role"},
	}
	b := roles(t, definitions, "base V1", "web V1", "web V3")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.build.Roles, tt.build.Out, tt.build.Image = b.Roles, b.Out, tt.image
			c, err := tt.build.recipe()
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join([]string{strings.TrimPrefix(strings.TrimPrefix(c.archive, b.Out), "/"), c.kernel(), strings.Join(c.packages(), " "),
				"[" + strings.Join(c.version.Upgrade, " ") + "]"}, " ")
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("recipe (-want +got):\n%s", diff)
			}
			if c.initramfs() != tt.initramfs || c.derived() != tt.isDerived || c.suite != "bookworm" {
				t.Errorf("initramfs %v, derived %v, suite %s", c.initramfs(), c.derived(), c.suite)
			}
		})
	}
}

// shell runs a hook on a tree with what it calls replaced: chroot prints its
// arguments, but answers for dpkg-query.
func shell(t *testing.T, script, tree string, installed map[string]string) string {
	t.Helper()
	bin := t.TempDir()
	fake := "#!/bin/sh\nshift\ncase \"$*\" in\n"
	for query, answer := range installed {
		fake += "*'" + query + "') echo '" + answer + "' ;;\n"
	}
	fake += "*dpkg-query*) ;;\n*) echo \"$*\" >&2 ;;\nesac\n"
	if err := os.WriteFile(filepath.Join(bin, "chroot"), []byte(fake), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", script, "hook", tree)
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

func TestInstallScript(t *testing.T) {
	c := recipe{role: role.Definition{Packages: []string{"db"}}, version: role.Version{From: "V1", Kernel: "linux-image-x=6", Upgrade: []string{"db-*", "lib"},
		Packages: []string{"vim"}}}
	got := shell(t, c.installScript(), t.TempDir(), map[string]string{
		"${Depends} linux-image-x":  "linux-image-6.12-x (= 6.12), foo",
		"${Package}  linux-image-*": "linux-image-6.1-x linux-image-6.12-x linux-image-x linux-image-y",
	})
	const apt = "apt-get --yes --no-install-recommends -o Dpkg::Options::=--force-confold -o Dpkg::Use-Pty=0 "
	want := apt + "install --no-upgrade db\n" + apt + "install vim\n" + apt + "install --only-upgrade db-* lib\n" + apt + "install linux-image-x=6\n" +
		apt + "purge linux-image-6.1-x\n" + apt + "purge linux-image-y\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
	// A kernel that came with the others leaves no older one; without a package
	// that says which is the newest, all stay.
	c.version = role.Version{From: "V1", Upgrade: []string{"*"}}
	want = apt + "install --no-upgrade db\n" + apt + "dist-upgrade\n"
	answers := map[string]string{"${Package}  linux-image-*": "linux-image-6.1-x linux-image-6.12-x linux-image-x"}
	if diff := cmp.Diff(want, shell(t, c.installScript(), t.TempDir(), answers)); diff != "" {
		t.Errorf("commands without a kernel of a kind (-want +got):\n%s", diff)
	}
	answers["${Package}  linux-image-[!0-9]*"] = "linux-image-x"
	answers["${Depends} linux-image-x"] = "linux-image-6.12-x (= 6.12), foo"
	if diff := cmp.Diff(want+apt+"purge linux-image-6.1-x\n", shell(t, c.installScript(), t.TempDir(), answers)); diff != "" {
		t.Errorf("commands for everything newest (-want +got):\n%s", diff)
	}
}

func TestArchiveScript(t *testing.T) {
	tree := t.TempDir()
	if err := os.MkdirAll(filepath.Join(tree, "etc/apt"), 0o755); err != nil {
		t.Fatal(err)
	}
	const sources = "deb http://mirror.example/debian bookworm main\ndeb http://mirror.example/debian-security bookworm-security main\n"
	if err := os.WriteFile(filepath.Join(tree, "etc/apt/sources.list"), []byte(sources), 0o644); err != nil {
		t.Fatal(err)
	}
	c := recipe{suite: "bookworm", version: role.Version{Sources: []string{"bookworm-backports"},
		Prefer: []role.Preference{{Packages: []string{"linux-image-*", "x"}, Suite: "bookworm-backports"}}}}
	shell(t, c.archiveScript(), tree, nil)
	for name, want := range map[string]string{
		aptSources:     "deb http://mirror.example/debian bookworm-backports main\n",
		aptPreferences: "Package: linux-image-* x\nPin: release n=bookworm-backports\nPin-Priority: 990\n\n",
	} {
		got, err := os.ReadFile(filepath.Join(tree, "etc/apt", name))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	c.suite = "trixie"
	cmd := exec.Command("sh", "-c", c.archiveScript(), "hook", t.TempDir())
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Errorf("a source without a known mirror is accepted: %s", out)
	}
}

// The excludes of the base and of the role are in the tree, a line each, and
// those of the version that it was made from are not there twice.
func TestFinishScript(t *testing.T) {
	tree := t.TempDir()
	for _, dir := range []string{"etc", "var/log", "var/lib/edeploy/V1"} {
		if err := os.MkdirAll(filepath.Join(tree, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(tree, "var/lib/edeploy/V1/exclude"), []byte("/home/\n/var/lib/a b/\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	b := Build{Image: wire.ImageRef{Role: "db", Version: "V2"}}
	c := recipe{role: role.Definition{Exclude: []string{"/var/lib/a b/", `/x\*`}}, version: role.Version{Exclude: []string{"/new/"}}}
	shell(t, b.finishScript(c), tree, nil)
	got, err := os.ReadFile(filepath.Join(tree, "var/lib/edeploy/V2/exclude"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("/home/\n/var/lib/a b/\n/x\\*\n/new/\n", string(got)); diff != "" {
		t.Errorf("exclude (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(filepath.Join(tree, "var/lib/edeploy/V1")); err == nil {
		t.Error("the older version's directory is still there")
	}
}

// What is in a tree as it was before keeps its time; what changed does not.
func TestUnchanged(t *testing.T) {
	old, young := time.Unix(1000, 0), time.Unix(2000, 0)
	members := func(at time.Time, changed string) []tar.Header {
		return []tar.Header{{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: at}, {Name: "./etc/", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: at},
			{Name: "./etc/same", Typeflag: tar.TypeReg, Mode: 0o644, ModTime: at, Linkname: "content"},
			{Name: "./etc/link", Typeflag: tar.TypeSymlink, Mode: 0o777, ModTime: at, Linkname: "same"},
			{Name: "./etc/text", Typeflag: tar.TypeReg, Mode: 0o644, ModTime: at, Linkname: changed},
			{Name: "./full/", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: at},
			{Name: "./full/" + changed, Typeflag: tar.TypeReg, Mode: 0o644, ModTime: at, Linkname: "x"}}
	}
	pack := func(headers []tar.Header) *bytes.Buffer {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range headers {
			content := ""
			if h.Typeflag == tar.TypeReg {
				content, h.Linkname, h.Size = h.Linkname, "", int64(len(h.Linkname))
			}
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
			io.WriteString(w, content)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return &b
	}
	dir := t.TempDir()
	before, err := archive.Describe(pack(members(old, "a")))
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if _, err := before.WriteTo(&text); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "x.mtree"), text.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	tree, err := os.Create(filepath.Join(dir, "tree"))
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if _, err := pack(members(young, "b")).WriteTo(tree); err != nil {
		t.Fatal(err)
	}
	if _, err := tree.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	kept, err := recipe{archive: filepath.Join(dir, "x.edeploy")}.unchanged(tree)
	if err != nil {
		t.Fatal(err)
	}
	m, err := archive.Normalize(t.Context(), io.Discard, tree, archive.NormalizeOptions{Add: kept, SpoolDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for _, e := range m.Entries {
		got[e.Path] = e.ModTime.Unix()
	}
	want := map[string]int64{".": 1000, "etc": 1000, "etc/same": 1000, "etc/link": 1000, "etc/text": 2000, "full": 2000, "full/b": 2000}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("times (-want +got):\n%s", diff)
	}
}
