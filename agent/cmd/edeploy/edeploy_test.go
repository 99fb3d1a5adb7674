package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edeploy/agent/internal/installed"
	"edeploy/images/manifest"
	"edeploy/images/manifest/fstree"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// machine makes an installed system of one file.
func machine(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(root, "usr/bin"), 0o755))
	must(t, os.MkdirAll(filepath.Join(root, "var/lib/edeploy"), 0o755))
	must(t, os.WriteFile(filepath.Join(root, "usr/bin/su"), []byte("su"), 0o600))
	must(t, os.Chmod(filepath.Join(root, "usr/bin/su"), 0o755|os.ModeSetuid))
	m, err := fstree.Walk(t.Context(), root, fstree.Options{})
	must(t, err)
	f, err := os.Create(filepath.Join(root, wire.ManifestPath))
	must(t, err)
	_, err = m.WriteTo(f)
	must(t, err)
	must(t, f.Close())
	conf := wire.Installed{Image: wire.ImageRef{Role: "mysql", Version: "D12-F.1.0.0"}, Profile: "vm", HTTPPort: 80, RServPort: 873, RPath: "install"}
	must(t, os.WriteFile(filepath.Join(root, wire.ConfPath), []byte(conf.Encode()), 0o644))
	return root
}

func call(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = program{args: args, stdout: &out, stderr: &errs}.run(t.Context())
	return status, out.String(), errs.String()
}

func TestFacts(t *testing.T) {
	root := machine(t)
	for command, want := range map[string]string{"version": "D12-F.1.0.0\n", "role": "mysql\n", "profile": "vm\n"} {
		if status, out, errs := call(t, command, "--root", root); status != 0 || out != want || errs != "" {
			t.Errorf("%s = %d %q %q, want %q", command, status, out, errs, want)
		}
	}
	if status, out, errs := call(t, "--version"); status != 0 || out != "edeploy "+wire.Release()+"\n" || errs != "" {
		t.Errorf("--version = %d %q %q", status, out, errs)
	}
	for _, args := range [][]string{{}, {"bogus"}, {"version", "extra"}, {"role", "--root", t.TempDir()}} {
		if status, out, errs := call(t, args...); status != 1 || out != "" || !strings.Contains(errs, "edeploy: ") {
			t.Errorf("edeploy %q = %d, stdout %q, stderr %q; want status 1 and a sentence", args, status, out, errs)
		}
	}
}

func TestVerify(t *testing.T) {
	root := machine(t)
	status, out, errs := call(t, "verify", "--root", root)
	if status != 0 || errs != "" || !strings.HasPrefix(out, "mysql D12-F.1.0.0: 7 entries, 0 MB compared in ") || !strings.HasSuffix(out, ": equal\nPaths not compared, each with all below it (--all compares them): 1 of edeploy itself\n") {
		t.Errorf("verify of an equal disk = %d %q %q", status, out, errs)
	}
	must(t, os.Chmod(filepath.Join(root, "usr/bin/su"), 0o755))
	must(t, os.WriteFile(filepath.Join(root, "usr/new file"), nil, 0o644))
	status, out, errs = call(t, "verify", "--root", root)
	if status != 1 || errs != "" {
		t.Errorf("verify of a changed disk = %d, stderr %q", status, errs)
	}
	for _, want := range []string{".f...p..... usr/bin/su  (mode 4755 -> 0755)\n", `*deleting   usr/new\040file  (extra file)` + "\n", ": 2 changed, 0 missing, 1 extra\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("verify printed\n%swant a line %q", out, want)
		}
	}
	status, out, _ = call(t, "verify", "--root", root, "--json")
	var got report
	must(t, json.Unmarshal([]byte(out), &got))
	if status != 1 || got.Equal || len(got.Paths) != 3 {
		t.Errorf("verify --json = %d %+v", status, got)
	}
	want := installed.Item{Path: "usr/bin/su", Flags: ".f...p.....", Differences: []manifest.Difference{{Attribute: "mode", Want: "4755", Got: "0755"}}}
	if diff := cmp.Diff(want, got.Paths[1].Item); diff != "" {
		t.Errorf("JSON of usr/bin/su (-want +got):\n%s", diff)
	}
}

func TestVerifyAll(t *testing.T) {
	root := machine(t)
	_, out, _ := call(t, "verify", "--root", root, "--all")
	for _, want := range []string{"var/lib/edeploy/manifest  (extra file)  [of edeploy itself]\n", "\nOf these are compared with --all only: 3 of edeploy itself\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("verify --all printed\n%swant %q", out, want)
		}
	}
}

func TestVerifyCannotLook(t *testing.T) {
	root := machine(t)
	broken := filepath.Join(root, "broken.mtree")
	must(t, os.WriteFile(broken, []byte("#mtree\n./../x type=file\n"), 0o644))
	for want, args := range map[string][]string{
		"was not installed by edeploy":              {"verify", "--root", t.TempDir()},
		"broken.mtree: read manifest: line 2":       {"verify", "--root", root, "--manifest", broken},
		"conf names no server (RSERV)":              {"verify", "--root", root, "--fetch"},
		"[fetch manifest] were all set":             {"verify", "--root", root, "--fetch", "--manifest", broken},
		"unknown flag: --colour":                    {"verify", "--colour"},
		"no such file or directory: use --fetch to": {"verify", "--root", noManifest(t)},
	} {
		status, out, errs := call(t, args...)
		if !strings.Contains(errs, want) || out != "" {
			t.Errorf("%q printed %q and %q, want %q", args, out, errs, want)
		}
		if status != 2 {
			t.Errorf("%q = %d, want 2", args, status)
		}
	}
}

func noManifest(t *testing.T) string {
	root := machine(t)
	must(t, os.Remove(filepath.Join(root, wire.ManifestPath)))
	return root
}

func TestHelpTeaches(t *testing.T) {
	status, out, _ := call(t, "verify", "--help")
	for _, want := range []string{"--fetch", "--json", "/etc/machine-id", "Exit status: 0", ".f...p....."} {
		if status != 0 || !strings.Contains(out, want) {
			t.Errorf("verify --help does not mention %q:\n%s", want, out)
		}
	}
}

func TestBar(t *testing.T) {
	now := time.Unix(0, 0)
	var out bytes.Buffer
	b := bar{out: &out, title: "verify", on: true, now: func() time.Time { return now }, start: now}
	b.show(50e6, 100e6)
	b.clear()
	if out.Len() != 0 {
		t.Errorf("the bar showed itself at once: %q", out.String())
	}
	now = now.Add(4 * time.Second)
	b.show(50e6, 200e6)
	if want := "\rverify [#######.......................]  25%  50 of 200 MB, 12s left \x1b[K"; out.String() != want {
		t.Errorf("bar = %q, want %q", out.String(), want)
	}
	out.Reset()
	b.clear()
	if out.String() != "\r\x1b[K" {
		t.Errorf("clear = %q", out.String())
	}
	silent := bar{out: &out, now: func() time.Time { return now }}
	out.Reset()
	silent.show(1, 2)
	silent.clear()
	if out.Len() != 0 {
		t.Errorf("a bar without a terminal wrote %q", out.String())
	}
}
