package main

import (
	"bytes"
	"compress/gzip"
	"mime/multipart"
	"path/filepath"
	"strings"
	"testing"

	"edeploy/server/api"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

// TestHWPull: what machines have sent can be fetched, and the other commands
// read it.
func TestHWPull(t *testing.T) {
	address, config := start(t)
	ask(t, 0, "machines", "section", "02:00:00:00:00:07", "SERVER", "--server", address) // it has sent nothing
	dir := filepath.Join(t.TempDir(), "new")
	out, _ := ask(t, 0, "hw", "pull", dir, "--server", address)
	if out != "1 description in "+dir+"; 1 machine has sent none\n" {
		t.Errorf("%q", out)
	}
	shown, _ := ask(t, 0, "hw", "show", id, "--server", address)
	if diff := cmp.Diff(map[string]string{id + ".json": shown}, contents(t, dir)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	out, _ = ask(t, 0, "match", "--all", dir, "--config", config)
	holds(t, out, id, "vm")
	ask(t, 1, "hw", "show", "nobody", "--server", address)
	misspelt := profiles(t, map[string]string{"state": "[('vm', 1)]", "vm.specs": "[('disk', '$d', 'sise', 'gt(4)')]", "vm.configure": "set_role('a', '1', 'b')"})
	ask(t, 0, "lint", misspelt)
	for _, flags := range [][]string{{"--machines", dir}, {"--live", "--server", address}} {
		out, stderr := ask(t, 1, append([]string{"lint", misspelt}, flags...)...)
		holds(t, out, "vm.specs:1:17: warning: no machine has in its disk facts the field 'sise': did you mean 'size'?")
		holds(t, stderr, "edeployctl: 0 errors, 1 warning\n")
	}
}

// TestLogs: the newest log is printed, or the one that is named.
func TestLogs(t *testing.T) {
	address, _ := start(t)
	hw, err := wire.DecodeHardware(strings.NewReader(hwJSON))
	if err != nil {
		t.Fatal(err)
	}
	sendLog(t, address, wire.LogName(hw), "first\n")
	sendLog(t, address, wire.LogName(hw), "second\x1b[2J\n")
	if out, _ := ask(t, 0, "logs", id, "--server", address); out != "second\x1b[2J\n" { // no terminal: as it is
		t.Errorf("%q", out)
	}
	out, _ := ask(t, 0, "logs", id, "--json", "--server", address)
	all := decode[[]api.Log](t, out)
	if len(all) != 2 {
		t.Fatalf("%s", out)
	}
	if out, _ := ask(t, 0, "machines", "logs", "--server", address, "--", id, all[1].Name); out != "first\n" {
		t.Errorf("%q", out)
	}
	if out, _ := ask(t, 0, "logs", id, "2", "--server", address); out != "first\n" {
		t.Errorf("the second: %q", out)
	}
	out, _ = ask(t, 0, "logs", id, "--list", "--server", address)
	holds(t, out, "NAME", all[0].Name, all[1].Name)
	ask(t, 1, "logs", id, "nosuch", "--server", address)

	var safe bytes.Buffer
	if _, err := (printer{&safe}).Write([]byte("a\x1b[2J\tb\n\x9b")); err != nil || safe.String() != "a[2J\tb\n" {
		t.Errorf("%q, %v", safe.String(), err)
	}
}

func sendLog(t *testing.T, address, name, text string) {
	t.Helper()
	var packed, body bytes.Buffer
	z := gzip.NewWriter(&packed)
	w := multipart.NewWriter(&body)
	if _, err := z.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	part, err := w.CreateFormFile("file", name)
	if err == nil {
		_, err = part.Write(packed.Bytes())
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	post(t, "http://"+address+"/cgi-bin/upload.py", w.FormDataContentType(), &body)
}
