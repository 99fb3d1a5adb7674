package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edeploy/images/internal/build"
	"edeploy/images/manifest"
	"edeploy/images/manifest/archive"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := newCommand()
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestCommands(t *testing.T) {
	tests := []struct {
		args []string
		out  string // in the output
		err  string // in the error
	}{
		{[]string{"list", "--roles", "../../roles"}, "  D12-F.1.0.1  D12-F.1.0.0  0         the newest MariaDB", ""},
		{[]string{"list", "--roles", t.TempDir()}, "", "no ROLE/role.yaml and no ROLE/versions/VERSION/version.yaml below"},
		{[]string{"build", "no-such-role", "V1", "--roles", "../../roles", "--out", t.TempDir()}, "", "no such role"},
		{[]string{"build", "base", "../V1", "--roles", "../../roles"}, "", "starts with"},
		{[]string{"build", "base", "V1", "--epoch", "yesterday"}, "", "want Unix seconds or a date"},
		{[]string{"build", "mysql", "V1", "--roles", "../../roles", "--out", t.TempDir()}, "", "mysql V1 starts from base V1, which is not built: mkrole build base V1"},
		{[]string{"check", "main_test.go"}, "", "neither zstd nor gzip nor tar"},
		{[]string{"check", "nothing.edeploy"}, "", "no such file"},
		{[]string{"pack", "nowhere", "tools", "1", "--out", t.TempDir()}, "", "pack nowhere: "},
		{[]string{"pack", ".", "../tools", "1"}, "", `role name "../tools" starts with`},
		{[]string{"diff", "a.edeploy", "b.edeploy"}, "", "a.mtree: no such file"},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args[:2], " "), func(t *testing.T) {
			out, err := run(t, tt.args...)
			if !strings.Contains(out, tt.out) {
				t.Errorf("output %q, want %q in it", out, tt.out)
			}
			if (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want %q in it", err, tt.err)
			}
		})
	}
}

// TestCheck: good is only said of a build that was compared with a second one.
func TestCheck(t *testing.T) {
	tree, dir := t.TempDir(), t.TempDir()
	put(t, filepath.Join(tree, "var/lib/edeploy/conf"), "VERS=V1\nROLE=web\n")
	put(t, filepath.Join(tree, "etc/web.key"), "-----BEGIN PRIVATE KEY-----\n")
	file := filepath.Join(dir, "web-V1.edeploy")
	var packed bytes.Buffer
	if _, err := archive.Pack(t.Context(), &packed, tree); err != nil {
		t.Fatal(err)
	}
	put(t, file, packed.String())
	if out, err := run(t, "check", "--not-bootable", file); err == nil || !strings.Contains(err.Error(), "/etc/web.key holds a private key: every machine would share it") {
		t.Errorf("%q, %v", out, err)
	}
	record := func(text string) { put(t, filepath.Join(dir, "web-V1.machine"), text+"\nshared /etc/*.key\n") }
	put(t, filepath.Join(dir, "web-V1.mtree"), "#mtree\n")
	for _, tt := range []struct{ compared, want string }{
		{fmt.Sprintf("compared %x", sha256.Sum256([]byte("#mtree\n"))), ": good; a second build, on a host of another name, was the same\n"},
		{"compared 1234", ": nothing is wrong, as far as one build tells; it was not compared with a second one,\n"},
		{"", "it was not compared with a second one"},
	} {
		record(tt.compared)
		if out, err := run(t, "check", "--not-bootable", file); err != nil || !strings.Contains(out, tt.want) {
			t.Errorf("%s: %q, %v", tt.compared, out, err)
		}
	}
}

// TestPack: the archive is that of the manifest, also when there was another one.
func TestPack(t *testing.T) {
	tree, out := t.TempDir(), t.TempDir()
	for _, content := range []string{"old", "new"} {
		put(t, filepath.Join(tree, "opt/vendor/tool"), content)
		said, err := run(t, "pack", tree, "tools", "8.07", "--out", out)
		if err != nil || !strings.HasPrefix(said, "tools 8.07: 4 entries, 0.0 MB, archive 0.0 MB\n") {
			t.Fatalf("%q, %v", said, err)
		}
	}
	published, err := manifest.ReadFile(filepath.Join(out, "8.07/tools-8.07.mtree"))
	if err != nil {
		t.Fatal(err)
	}
	packed, err := os.Open(filepath.Join(out, "8.07/tools-8.07.edeploy"))
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	plain, err := archive.Open(packed)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	unpacked := t.TempDir()
	got, err := archive.Extract(t.Context(), plain, unpacked, archive.Options{})
	if err != nil || len(manifest.Diff(published, got)) > 0 {
		t.Errorf("%v, %v", err, manifest.Diff(published, got))
	}
	if text, err := os.ReadFile(filepath.Join(unpacked, "opt/vendor/tool")); string(text) != "new" {
		t.Errorf("tool holds %q, %v", text, err)
	}
}

// TestExitStatus: a command line that means nothing is one line, and status 2.
func TestExitStatus(t *testing.T) {
	tests := []struct {
		args   string
		status int
		said   string
	}{
		{"bild", 2, `mkrole: unknown command "bild" for "mkrole"`},
		{"list all", 2, "mkrole: want mkrole list; see mkrole list --help"},
		{"build base", 2, "mkrole: want mkrole build ROLE VERSION; see mkrole build --help"},
		{"build --twice base V1", 2, "mkrole: unknown flag: --twice; see mkrole build --help"},
		{"metadata V1", 2, "mkrole: want mkrole metadata FROM TO [ROLE...]; see mkrole metadata --help"},
		{"check nothing.edeploy", 1, "mkrole: open nothing.edeploy: no such file or directory"},
		{"--version", 0, "mkrole " + wire.Release() + "\n"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			var out bytes.Buffer
			status := execute(t.Context(), strings.Fields(tt.args), &out, &out)
			if status != tt.status || !strings.HasPrefix(out.String(), tt.said) || strings.Count(out.String(), "\n") != 1 {
				t.Errorf("status %d, want %d; said %q, want %q", status, tt.status, out.String(), tt.said)
			}
		})
	}
}

func TestCompletion(t *testing.T) {
	roles, out := builds(t)
	put(t, filepath.Join(roles, "web/versions/V7/version.yaml"), "description: x\n")
	for _, tt := range []struct{ args, want string }{
		{"build --roles " + roles, "web\n:4\n"},
		{"build --roles " + roles + " web", "V7\n:4\n"},
		{"metadata --out " + out, "V1\nV2\n:4\n"},
		{"metadata --out " + out + " V1", "V2\n:4\n"},
		{"metadata --out " + out + " V1 V2", "web\n:4\n"},
		{"check", "edeploy\n:8\n"},
		{"diff", "edeploy\n:8\n"},
	} {
		got, err := run(t, append(append([]string{"__complete"}, strings.Fields(tt.args)...), "")...)
		if err != nil || !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: %q, %v, want %q", tt.args, got, err, tt.want)
		}
	}
}

func TestParseEpoch(t *testing.T) {
	now := time.Date(2025, 3, 4, 5, 6, 7, 0, time.UTC)
	for text, want := range map[string]int64{"": 1741046400, "1000": 1000, "2025-01-31": 1738281600} {
		if got, err := parseEpoch(text, now); err != nil || got.Unix() != want {
			t.Errorf("parseEpoch(%q) = %d, %v, want %d", text, got.Unix(), err, want)
		}
	}
}

func TestProgressShowsTenths(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out, time.Now())
	for i := range 101 {
		p.event(build.Event{Phase: "install", Done: i, Total: 100})
	}
	if diff := cmp.Diff(11, strings.Count(out.String(), "\n")); diff != "" {
		t.Errorf("lines (-want +got):\n%s%s", diff, out.String())
	}
}
