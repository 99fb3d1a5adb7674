package role_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edeploy/images/internal/role"

	"github.com/google/go-cmp/cmp"
)

// The versions that come with the product are a chain, each with its start.
func TestShippedVersions(t *testing.T) {
	mysql, err := (role.Path{"../../roles"}).Load("mysql")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, name := range []string{"D12-F.1.0.0", "D12-F.1.0.1", "D12-F.1.0.2", "D12-F.9"} {
		v, err := mysql.LoadVersion(name)
		if err != nil {
			t.Fatal(err)
		}
		if v.Description == "" && name != "D12-F.9" {
			t.Errorf("version %s has no description", name)
		}
		got[name] = v.From
	}
	want := map[string]string{"D12-F.1.0.0": "", "D12-F.1.0.1": "D12-F.1.0.0", "D12-F.1.0.2": "D12-F.1.0.1", "D12-F.9": ""}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("versions and what they start from (-want +got):\n%s", diff)
	}
}

func TestLoadVersionRefuses(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"unknown key", "form: V1\n", "form"},
		{"from itself", "from: V2\n", "starts from itself"},
		{"climbing", "from: ../V1\n", `starts with "."`},
		{"upgrade of nothing", "upgrade: ['*']\n", "give from"},
		{"shell in upgrade", "from: V1\nupgrade: [\"a'; reboot\"]\n", "neither a name nor a pattern"},
		{"shell in a package", "packages: [$(reboot)]\n", "not a package name"},
		{"shell in the kernel", "kernel: a;b\n", "not a package name"},
		{"source", "sources: ['bookworm main']\n", "not the name of a Debian suite"},
		{"preferred suite", "prefer: [{packages: [a*], suite: 'x y'}]\n", "not the name of a Debian suite"},
		{"preferred nothing", "prefer: [{suite: bookworm}]\n", "no packages are named"},
		{"preferred lines", "prefer: [{packages: [\"a\\nPin: x\"], suite: bookworm}]\n", "neither a name nor a pattern"},
		{"remove", "remove: [etc]\n", "clean absolute path"},
		{"exclude", "exclude: ['']\n", "want one pattern"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "r", "suite: bookworm\n")
			file := filepath.Join(dir, "r", "versions", "V2", "version.yaml")
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(tt.text), 0o644); err != nil {
				t.Fatal(err)
			}
			d, err := (role.Path{dir}).Load("r")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := d.LoadVersion("V2"); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestFits(t *testing.T) {
	c := role.Change{Packages: []string{"linux-image-*", "systemd"}}
	for name, want := range map[string]bool{"linux-image-6.1": true, "systemd": true, "systemd-sysv": false, "xlinux-image-1": false} {
		if c.Fits(name) != want {
			t.Errorf("Fits(%q) = %v", name, !want)
		}
	}
}
