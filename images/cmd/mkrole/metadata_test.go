package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edeploy/images/manifest"
)

// put writes a file and its directories.
func put(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// builds writes two versions of the role web: manifests and package lists.
func builds(t *testing.T) (roles, out string) {
	t.Helper()
	roles, out = t.TempDir(), filepath.Join(t.TempDir(), "install")
	put(t, filepath.Join(roles, "web", "role.yaml"), "suite: bookworm\nexclude: [/home/]\nchanged: [{packages: [nginx], post: systemctl reload nginx}]\n")
	for version, packages := range map[string]string{"V1": "nginx 1\n", "V2": "nginx 2\n"} {
		m, err := manifest.New([]manifest.Entry{{Path: ".", Type: manifest.Dir, Mode: 0o755}})
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		if _, err := m.WriteTo(&text); err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(out, version, "web-"+version+".mtree"), text.String())
		put(t, filepath.Join(out, version, "web-"+version+".packages"), packages)
	}
	return roles, out
}

func TestMetadata(t *testing.T) {
	roles, out := builds(t)
	verify := filepath.Join(t.TempDir(), "verify.json")
	put(t, verify, `{"image":{"role":"web","version":"V1"},"paths":[{"path":"etc/a\\040b","itemized":".f","differences":[{"attribute":"mode"}]},
		{"path":"home/x","differences":[{"attribute":"extra"}]}]}`)
	text, err := run(t, "metadata", "V1", "V2", "--roles", roles, "--out", out, "--verify", verify)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(filepath.Dir(out), "metadata", "V1", "web", "V2")
	if want := "web V1 to V2: add_only written, exclude written, post written\n" + dir + "\n"; text != want {
		t.Errorf("output %q, want %q", text, want)
	}
	for name, want := range map[string]string{"exclude": "\n/home/\n\n# differs on a machine (mode)\n/etc/a b\n", "add_only": "+ /var/**\n", "post": "systemctl reload nginx\n"} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !strings.HasSuffix(string(got), want) && !strings.Contains(string(got), want) {
			t.Errorf("%s: %v: %q, want %q in it", name, err, got, want)
		}
	}
	put(t, filepath.Join(dir, "exclude"), "/mine\n")
	text, err = run(t, "metadata", "V1", "V2", "web", "--roles", roles, "--out", out)
	if err != nil || !strings.Contains(text, "exclude edited, post unchanged") {
		t.Errorf("with an edited file: %q, %v", text, err)
	}
	put(t, filepath.Join(dir, "add_only"), "# nothing\n")
	if _, err = run(t, "metadata", "V1", "V2", "--roles", roles, "--out", out); err == nil || !strings.Contains(err.Error(), "add_only has no rule") {
		t.Errorf("with an edited file that is wrong: %v", err)
	}
}

// A role that is built in both versions and that nothing is known of is left
// out; named, it is an error, and nothing is written.
func TestMetadataOfUnknownRoles(t *testing.T) {
	roles, out := builds(t)
	for _, version := range []string{"V1", "V2"} {
		for _, suffix := range []string{".mtree", ".packages"} {
			text, err := os.ReadFile(filepath.Join(out, version, "web-"+version+suffix))
			if err != nil {
				t.Fatal(err)
			}
			put(t, filepath.Join(out, version, "db-"+version+suffix), string(text))
		}
	}
	dir := filepath.Join(filepath.Dir(out), "metadata", "V1")
	if _, err := run(t, "metadata", "V1", "V2", "web", "db", "--roles", roles, "--out", out); err == nil || !strings.Contains(err.Error(), "no such role") {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("something was written")
	}
	text, err := run(t, "metadata", "V1", "V2", "--roles", roles, "--out", out)
	if err != nil || !strings.Contains(text, "left out: role db: no such role") || !strings.Contains(text, "web V1 to V2: ") {
		t.Errorf("%q, %v", text, err)
	}
	if err := os.RemoveAll(filepath.Join(roles, "web")); err != nil {
		t.Fatal(err)
	}
	if _, err := run(t, "metadata", "V1", "V2", "--roles", roles, "--out", out); err == nil || !strings.Contains(err.Error(), "give --roles DIR") {
		t.Errorf("error %v", err)
	}
}

func TestMetadataRefuses(t *testing.T) {
	roles, out := builds(t)
	other := filepath.Join(t.TempDir(), "verify.json")
	put(t, other, `{"image":{"role":"web","version":"V9"}}`)
	tests := []struct {
		args string
		want string
	}{
		{"V1 V3", "no role is built in V1 and in V3 below"},
		{"V1 V3 web", "web-V3.mtree: no such file"},
		{"V1 V1", "an upgrade from web V1 to itself"},
		{"../V1 V2", `starts with "."`},
		{"V1 V2 db", "no such role"},
		{"V1 V2 --verify " + other, `is about "web V9", not about web V1`},
		{"V1 V2 --verify metadata_test.go", "is not the output of edeploy verify --json"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			args := append([]string{"metadata", "--roles", roles, "--out", out}, strings.Fields(tt.args)...)
			if _, err := run(t, args...); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}
