package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// writeUpgrade writes the metadata of D7-F.1.0.0/mysql/TO below a directory
// named metadata and answers its path.
func writeUpgrade(t *testing.T, top, to string, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(top, "metadata", "D7-F.1.0.0", "mysql", to)
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o644)
		if strings.HasPrefix(text, "#!") {
			mode = 0o755
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestPushMetadata: metadata comes to a real image service as it is, the same
// one once, another one only when that is wanted.
func TestPushMetadata(t *testing.T) {
	address, top := imageServer(t), t.TempDir()
	one := writeUpgrade(t, top, "D7-F.1.1.0", map[string]string{"exclude": "/etc/hosts\n", "add_only": "/var/lib\n", "pre": "#!/bin/sh\nexit 0\n"})
	writeUpgrade(t, top, "D7-F.1.2.0", map[string]string{"exclude": "/etc/hosts\n", "add_only": "/var/lib\n"})
	push := func(status int, args ...string) (out, stderr string) {
		t.Helper()
		is, out, stderr := ctl(t, append([]string{"push-metadata", "--server", address}, args...)...)
		if is != status {
			t.Fatalf("status %d, want %d: %s%s", is, status, out, stderr)
		}
		return out, stderr
	}
	const first = "mysql from D7-F.1.0.0 to D7-F.1.1.0: "
	const missing = "; the image mysql D7-F.1.1.0 is still missing\n"
	if out, _ := push(0, one); out != first+"published"+missing {
		t.Errorf("one: %q", out)
	}
	out, _ := push(0, filepath.Join(top, "metadata"))
	if want := first + "was there already" + missing + "mysql from D7-F.1.0.0 to D7-F.1.2.0: published"; !strings.HasPrefix(out, want) {
		t.Errorf("all: %q, want %q", out, want)
	}
	for _, above := range []string{"", "metadata/D7-F.1.0.0", "metadata/D7-F.1.0.0/mysql"} {
		if out, _ := push(0, filepath.Join(top, above)); strings.Count(out, "was there already") != 2 {
			t.Errorf("below %s: %q", above, out)
		}
	}
	writeUpgrade(t, top, "D7-F.1.1.0", map[string]string{"exclude": "/etc/passwd\n"})
	if _, stderr := push(1, one); !strings.HasPrefix(stderr, "edeployctl: push metadata of mysql from D7-F.1.0.0 to D7-F.1.1.0: ") || !strings.Contains(stderr, "--replace replaces it") {
		t.Errorf("another one: %q", stderr)
	}
	out, _ = push(0, "--replace", "--json", one)
	var answer struct{ State, From, Role, To string }
	if err := json.Unmarshal([]byte(out), &answer); err != nil || answer.State != "replaced" || answer.To != "D7-F.1.1.0" || strings.Count(out, "\n") != 1 {
		t.Errorf("replaced: %q, %v", out, err)
	}
	if got := served(t, "http://"+address+"/metadata/D7-F.1.0.0/mysql/D7-F.1.1.0/exclude"); got != "/etc/passwd\n" {
		t.Errorf("served: %q", got)
	}
}

func served(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s, %v", url, resp.Status, text, err)
	}
	return string(text)
}

// TestPushMetadataRefusals: what cannot be brought is told before anything is.
func TestPushMetadataRefusals(t *testing.T) {
	address, top := imageServer(t), t.TempDir()
	good := map[string]string{"exclude": "/etc/hosts\n", "add_only": "/var/lib\n"}
	linked := writeUpgrade(t, top, "D7-F.1.3.0", good)
	if err := os.Symlink("exclude", filepath.Join(linked, "pre")); err != nil {
		t.Fatal(err)
	}
	nameless := filepath.Join(t.TempDir(), ".x", "..y", "mysql", "D7-F.1.1.0")
	if err := os.MkdirAll(nameless, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(nameless, "exclude"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, dir, want string }{
		{"no such directory", filepath.Join(top, "none"), "no such file or directory"},
		{"an empty directory", t.TempDir(), "holds no upgrade metadata: want FROM/ROLE/TO with the files exclude and add_only"},
		{"no exclude", writeUpgrade(t, top, "D7-F.1.7.0", map[string]string{"add_only": "- *\n"}), "exclude is missing"},
		{"a link", linked, "pre is neither a file nor a directory"},
		{"a name", nameless, "is not named FROM/ROLE/TO"},
		{"no add_only", writeUpgrade(t, top, "D7-F.1.4.0", map[string]string{"exclude": "/etc/hosts\n"}), "add_only"},
		{"too large", writeUpgrade(t, top, "D7-F.1.5.0", map[string]string{"exclude": strings.Repeat("/etc/hosts\n", maxMetadata/11+1)}), "more than 8388608"},
		{"program", writeUpgrade(t, top, "D7-F.1.6.0", map[string]string{"exclude": "/etc/hosts\n", "add_only": "/var/lib\n", "post": "echo\n"}), "post is not executable"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, out, stderr := ctl(t, "push-metadata", "--server", address, tt.dir)
			if status != 1 || out != "" || !strings.Contains(stderr, tt.want) {
				t.Errorf("status %d, %q, %q; want %q", status, out, stderr, tt.want)
			}
		})
	}
	several := t.TempDir()
	writeUpgrade(t, several, "D7-F.1.1.0", map[string]string{"exclude": "/etc/hosts\n"})
	writeUpgrade(t, several, "D7-F.1.2.0", good)
	writeUpgrade(t, several, "D7-F.1.3.0", map[string]string{"exclude": "/etc/hosts\n", "add_only": ""})
	status, out, stderr := ctl(t, "push-metadata", "--server", address, several)
	if status != 1 || !strings.HasPrefix(out, "mysql from D7-F.1.0.0 to D7-F.1.2.0: published") || !strings.Contains(stderr, "to D7-F.1.1.0: ") || !strings.Contains(stderr, "to D7-F.1.3.0: ") {
		t.Errorf("several: %d, %q, %q", status, out, stderr)
	}
	if status, _, stderr := ctl(t, "push-metadata", linked); status != 1 || !strings.Contains(stderr, "EDEPLOY_SERVER") {
		t.Errorf("without a server: %d %s", status, stderr)
	}
}
