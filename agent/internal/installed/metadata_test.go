package installed_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edeploy/agent/internal/installed"
	"edeploy/agent/internal/treepath"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

func TestReadMetadata(t *testing.T) {
	for want, files := range map[string]map[string]string{
		"exclude is missing":                   {"add_only": "- *\n"},
		"add_only is missing":                  {"exclude": "/home\n"},
		"add_only has no rule":                 {"exclude": "", "add_only": "\n"},
		`exclude: line 1: "- " has no pattern`: {"exclude": "- \n", "add_only": "- *\n"},
		"":                                     {"exclude": "/home\n", "add_only": "- *\n"},
	} {
		dir := t.TempDir()
		for name, text := range files {
			write(t, dir, name, text)
		}
		m, err := installed.ReadMetadata(dir)
		if want == "" && (err != nil || !m.Exclude.Excludes("home", true) || !m.AddOnly.Excludes("x", false)) {
			t.Errorf("ReadMetadata = %+v, %v", m, err)
		}
		if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("ReadMetadata(%q) = %v, want %q", files, err, want)
		}
	}
}

// published metadata of two upgrades of mysql D12-F.1.0.0; the first complete.
func metadata(t *testing.T) (dir string, image wire.ImageRef) {
	t.Helper()
	dir = t.TempDir()
	must(t, os.Chmod(dir, 0o755))
	write(t, dir, "D12-F.1.0.0/mysql/D12-F.1.0.1/exclude", "/home\n")
	write(t, dir, "D12-F.1.0.0/mysql/D12-F.1.0.1/add_only", "- *\n")
	write(t, dir, "D12-F.1.0.0/mysql/D12-F.1.0.1/pre", "#!/bin/sh\n")
	must(t, os.Chmod(filepath.Join(dir, "D12-F.1.0.0/mysql/D12-F.1.0.1/pre"), 0o755))
	write(t, dir, "D12-F.1.0.0/mysql/D12-F.1.0.2/exclude", "/home\n")
	return dir, wire.ImageRef{Role: "mysql", Version: "D12-F.1.0.0"}
}

func TestFetchMetadata(t *testing.T) {
	for name, daemon := range map[string]func(*testing.T, string, string) int{"gokrazy": gokrazyModule, "Debian": debianModule} {
		t.Run(name, func(t *testing.T) {
			served, image := metadata(t)
			conf := wire.Installed{Image: image, RServ: "127.0.0.1", RServPort: daemon(t, "metadata", served), RPath: "install"}
			versions, err := installed.Upgrades(t.Context(), conf)
			must(t, err)
			if diff := cmp.Diff([]string{"D12-F.1.0.1", "D12-F.1.0.2"}, versions); diff != "" {
				t.Errorf("upgrades (-want +got):\n%s", diff)
			}
			dir := t.TempDir()
			must(t, installed.FetchMetadata(t.Context(), conf, "D12-F.1.0.1", dir))
			m, err := installed.ReadMetadata(dir)
			must(t, err)
			if !m.Exclude.Excludes("home", true) {
				t.Error("the fetched exclude does not exclude")
			}
			if info, err := os.Stat(filepath.Join(dir, "pre")); err != nil || info.Mode().Perm() != 0o755 {
				t.Errorf("pre = %v, %v; want an executable", info, err)
			}
			for to, want := range map[string]string{
				"D12-F.9":      "no such upgrade is published: the server has metadata of mysql D12-F.1.0.0 for D12-F.1.0.1, D12-F.1.0.2",
				"../../../etc": "version name",
			} {
				err := installed.FetchMetadata(t.Context(), conf, to, t.TempDir())
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("FetchMetadata of %s = %v, want %q", to, err, want)
				} else {
					t.Log(err)
				}
			}
			conf.Image.Role = "other"
			if versions, err := installed.Upgrades(t.Context(), conf); err == nil && len(versions) > 0 {
				t.Errorf("Upgrades of an unknown role = %v", versions)
			} else {
				t.Log(err)
			}
		})
	}
}

func TestAstray(t *testing.T) {
	dir, root := t.TempDir(), t.TempDir()
	must(t, os.MkdirAll(filepath.Join(root, "usr/lib/modules"), 0o755))
	must(t, os.Symlink("usr/lib", filepath.Join(root, "lib")))
	must(t, os.Symlink("/run", filepath.Join(root, "var")))
	write(t, dir, "exclude", "# mine\n/lib/modules/x/\n- /lib/*.so\n/usr/lib/modules/\nlib/x\n/lib\n+ /var/lib/[ab]/c\n/none/x\n/\n/*\n")
	got, err := installed.Astray(dir, "exclude", treepath.OnDisk(root))
	must(t, err)
	want := []string{
		"exclude: /lib/modules/x/ names nothing, because /lib/modules leads through a link: write /usr/lib/modules/x",
		"exclude: /lib/*.so names nothing, because /lib leads through a link: write /usr/lib/*.so",
		"exclude: /var/lib/[ab]/c names nothing, because /var/lib leads through a link: write /run/lib/[ab]/c",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
