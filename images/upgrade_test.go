package images_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"edeploy/integration/needs"

	"github.com/google/go-cmp/cmp"
)

// metadata packs a directory of upgrade metadata with the Debian tar, as the
// manual page does.
func metadata(t *testing.T, files map[string]string) []byte {
	t.Helper()
	needs.Program(t, "tar")
	dir := t.TempDir()
	for name, content := range files {
		mode := os.FileMode(0o644)
		if strings.HasPrefix(content, "#!") {
			mode = 0o755
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("tar", "-C", dir, "-c", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// An upgrade is put, listed, served, replaced and deleted over HTTP.
func TestUpgradeMetadata(t *testing.T) {
	s := start(t, t.TempDir())
	first := metadata(t, map[string]string{"exclude": "/home/\n", "add_only": "- *\n", "post": "#!/bin/sh\n"})
	second := metadata(t, map[string]string{"exclude": "/root/\n", "add_only": "- *\n"})
	bad := metadata(t, map[string]string{"add_only": "- *\n"})
	const one = "/api/v1/images/V1/web/metadata/V2"
	requests := []struct {
		method, path string
		body         []byte
		header       []string
		status       int
		want         string // in the body
	}{
		{"GET", one, nil, nil, 404, "web V1 to V2: no such upgrade"},
		{"PUT", one, bad, nil, 400, "exclude is missing: an upgrade without it could destroy data"},
		{"PUT", one, first, []string{"If-None-Match", "*"}, 201, `"state":"new"`},
		{"PUT", one, first, []string{"If-None-Match", "*"}, 200, `"state":"same"`},
		{"PUT", one, second, []string{"If-None-Match", "*"}, 409, "another upgrade"},
		{"GET", "/metadata/V1/web/V2/post", nil, nil, 200, "#!/bin/sh\n"},
		{"PUT", one, second, nil, 200, `"state":"replaced"`},
		{"GET", "/metadata/V1/web/V2/", nil, nil, 200, "add_only\nexclude\n"},
		{"GET", "/metadata/V1/web/V2/post", nil, nil, 404, ""},
		{"GET", one, nil, nil, 200, `"complete":false`},
		{"PATCH", one, nil, nil, 405, "not allowed"},
		{"GET", "/api/v1/images/V1/web/metadata/../V2", nil, nil, 404, ""},
		{"PUT", "/api/v1/images/V1/web/metadata/V1", first, nil, 400, "to itself"},
		{"PUT", "/api/v1/images/V1/we%20b/metadata/V2", first, nil, 400, "role name"},
		{"POST", "/api/v1/images/metadata", nil, nil, 405, "not allowed"},
		{"DELETE", one, nil, nil, 204, ""},
		{"DELETE", one, nil, nil, 404, "no such upgrade"},
		{"GET", "/api/v1/images/metadata", nil, nil, 200, "[]"},
	}
	for i, r := range requests {
		if i == len(requests)-3 {
			for _, list := range []string{"/api/v1/images/metadata", "/api/v1/images/V1/web/metadata"} {
				checkList(t, s.do(t, "GET", list, nil).body)
			}
		}
		got := s.do(t, r.method, r.path, bytes.NewReader(r.body), r.header...)
		if got.status != r.status || !strings.Contains(got.body, r.want) {
			t.Errorf("%s %s: %d %s, want %d with %q", r.method, r.path, got.status, got.body, r.status, r.want)
		}
	}
}

func checkList(t *testing.T, body string) {
	t.Helper()
	var got []struct {
		From, Role, To string
		Files          []struct{ Name, Mode string }
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	var lines []string
	for _, u := range got {
		line := u.From + " " + u.Role + " " + u.To
		for _, f := range u.Files {
			line += " " + f.Name + " " + f.Mode
		}
		lines = append(lines, line)
	}
	if diff := cmp.Diff([]string{"V1 web V2 add_only 0644 exclude 0644"}, lines); diff != "" {
		t.Errorf("upgrades (-want +got):\n%s", diff)
	}
}
