package main

import (
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edeploy/server/api"
	"edeploy/server/internal/lint"
)

// machineN uploads a description of machine n with this BIOS and answers the
// status.
func machineN(t *testing.T, address string, n int, bios string) int {
	t.Helper()
	hw := fmt.Sprintf(`[["disk","vda","size","40"],["system","product","name","R7"],["firmware","bios","version",%q],["cpu","logical","score","%d"],["network","eth0","serial","02:00:00:00:01:%02x"]]`, bios, 1000+n, n)
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	part, err := w.CreateFormFile("file", "hw.json")
	if err == nil {
		_, err = io.WriteString(part, hw)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post("http://"+address+"/cgi-bin/upload.py", w.FormDataContentType(), &body)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func idN(n int) string { return fmt.Sprintf("02-00-00-00-01-%02x", n) }

// TestExpect: from a good machine to one that is held and let pass.
func TestExpect(t *testing.T) {
	address, config := start(t)
	if err := os.WriteFile(filepath.Join(config, "state"), []byte("[('vm', '*')]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	on := func(status int, args ...string) (string, string) {
		return ask(t, status, append(args, "--server", address)...)
	}
	for n := range 12 {
		bios := "1.1"
		if n == 11 {
			bios = "1.0"
		}
		if status := machineN(t, address, n, bios); status != http.StatusOK {
			t.Fatal(status)
		}
	}
	out, _ := on(0, "expect", "r7", idN(0), "--print")
	if !strings.Contains(out, "('firmware', 'bios', 'version', '1.1')") || strings.Contains(out, "02:00:00") {
		t.Errorf("printed: %s", out)
	}
	on(1, "config", "show", "r7.bill") // --print stores nothing
	_, stderr := on(0, "expect", "odd", idN(11), "--group")
	if !strings.Contains(stderr, "11 machines are alike and not like "+idN(11)) {
		t.Errorf("no warning about an odd machine: %q", stderr)
	}
	out, _ = on(0, "expect", "r7", idN(0), "--group", "--json", "--ignore", "network * speed limit")
	if is := decode[made](t, out); is.Alike != 11 || is.Of != 12 || is.Ignored != 2 || is.Facts != 3 || !is.New {
		t.Errorf("%+v", is)
	}
	specs, _ := on(0, "config", "show", "vm.specs")
	dir := t.TempDir()
	for name, text := range map[string]string{"vm.specs": "# edeploy: expect r7\n" + specs} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	on(0, "config", "push", dir)
	if status := machineN(t, address, 12, "1.1"); status != http.StatusOK {
		t.Errorf("a good one: %d", status)
	}
	if status := machineN(t, address, 13, "1.0"); status != http.StatusConflict {
		t.Errorf("one that differs: %d", status)
	}
	out, _ = on(0, "machines", "show", idN(13))
	holds(t, out, "HELD", "hardware", "differs from r7.bill in 1 property", "firmware bios version: 1.0 instead of 1.1", "history")
	out, _ = on(1, "problems")
	holds(t, out, "install-anyway "+idN(13))
	on(1, "install-anyway", idN(0))
	out, _ = on(0, "install-anyway", idN(13))
	holds(t, out, "is installed when it boots again")
	if status := machineN(t, address, 13, "1.0"); status != http.StatusOK {
		t.Errorf("let pass: %d", status)
	}
	if status := machineN(t, address, 14, "1.0"); status != http.StatusConflict {
		t.Errorf("another one: %d", status)
	}
	out, _ = on(0, "expect", "r7", idN(14)) // what was ignored stays so
	holds(t, out, "r7.bill: 3 facts", "2 patterns", "changed: firmware bios version: 1.0 instead of 1.1")
	if status := machineN(t, address, 14, "1.0"); status != http.StatusOK {
		t.Errorf("with the new bill: %d", status)
	}
	out, _ = ask(t, 0, "__complete", "expect", "--server", address, "")
	holds(t, out, "odd", "r7")
	out, _ = ask(t, 0, "__complete", "expect", "--server", address, "r7", "")
	holds(t, out, idN(0))
	on(0, "config", "pull", filepath.Join(dir, "back"))
	if _, err := os.Stat(filepath.Join(dir, "back", "r7.bill")); err != nil {
		t.Error(err)
	}
	for _, tt := range []struct {
		status int
		args   []string
		err    string
	}{
		{2, []string{"expect"}, "usage: edeployctl expect BILL ID | expect --list FILE"},
		{2, []string{"expect", "a", "b", "--list", "x"}, "usage: "},
		{2, []string{"expect", "a/b", idN(0)}, "cannot be the name of a bill"},
		{2, []string{"expect", "r7", idN(0), "--ignore", "speed"}, "want CATEGORY ID FIELD"},
		{1, []string{"expect", "r7", "nobody"}, "no machine is known as nobody"},
		{1, []string{"expect", "r7", idN(0), "--section", "NOSUCH"}, "NOSUCH"},
	} {
		if _, stderr := on(tt.status, tt.args...); !strings.Contains(stderr, tt.err) {
			t.Errorf("%v: %q, want %q", tt.args, stderr, tt.err)
		}
	}
}

// TestExpectList: a list with a mistake names file and line; a good one shows
// who has not come.
func TestExpectList(t *testing.T) {
	address, _ := start(t)
	list := filepath.Join(t.TempDir(), "rack1.csv")
	write := func(text string) {
		if err := os.WriteFile(list, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	bring := func(status int, args ...string) (string, string) {
		return ask(t, status, append([]string{"expect", "--list", list, "--server", address}, args...)...)
	}
	write("02:00:00:00:01:05,node5\n02:00:00:00:01:5,node6\n")
	if _, stderr := bring(1); stderr != "edeployctl: rack1.csv line 2: \"02:00:00:00:01:5\" is no MAC address of an adapter: nothing is imported\n" {
		t.Errorf("%q", stderr)
	}
	out, _ := ask(t, 0, "machines", "--server", address)
	if strings.Contains(out, "node5") || strings.Contains(out, "PLACE") {
		t.Errorf("something is imported:\n%s", out)
	}
	write("02:00:00:00:01:05,node5,,R1,5\nCZ1,node6,SERVER,R1,6\n02:00:00:00:00:01,first\n")
	out, _ = bring(0)
	holds(t, out, "2 machines to come, 1 known before and changed, 0 unchanged")
	out, _ = bring(0, "--json")
	if is := decode[api.Imported](t, out); is != (api.Imported{Unchanged: 3}) {
		t.Errorf("%+v", is)
	}
	out, _ = ask(t, 0, "machines", "--server", address)
	holds(t, out, "PLACE", "first", "node5", "not come yet", "rack R1 unit 5", "node6", "not come yet", "rack R1 unit 6")
	machineN(t, address, 5, "1.1")
	out, _ = ask(t, 0, "machines", "show", "node5", "--server", address)
	holds(t, out, "installing", "expected", "came ", "node5, rack R1 unit 5")
	out, _ = ask(t, 0, "machines", "show", "node6", "--server", address)
	holds(t, out, "expected", "has not come yet, node6, rack R1 unit 6")
	list = "/nosuch"
	bring(1)
}

// TestLintBills: a bill that is missing, broken or superfluous.
func TestLintBills(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"state":    "[('a', 1), ('b', 1), ('c', 1)]\n",
		"a.specs":  "[('disk', '$d', 'size', '4'),\n # edeploy: expect gone\n]\n",
		"b.specs":  "#edeploy:expect bad\n[('disk', '$d', 'size', '4')]\n",
		"c.specs":  "# edeploy: except good\n[('disk', '$d', 'size', '# edeploy: expect text')]\n",
		"bad.bill": "{'facts': [('a', 'b', 'c')]}\n", "spare.bill": "{'facts': [('a', 'b', 'c', 'd')]}\n",
		"a.configure": "set_role('a', '1', 'x')\n", "b.configure": "set_role('a', '1', 'x')\n", "c.configure": "set_role('a', '1', 'x')\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out, _ := ask(t, 1, "lint", "--json", dir)
	report := decode[lint.Report](t, out)
	var got []string
	for _, f := range report.Findings {
		got = append(got, f.String())
	}
	holds(t, strings.Join(got, "\n"), "a.specs:2:1: error: there is no gone.bill", "bad.bill:1:12: error: want a list of tuples of 4 texts",
		"c.specs:1:1: warning: edeploy: except good says nothing here", "spare.bill: warning: no profile expects it")
	if len(got) != 4 {
		t.Errorf("%d findings:\n%s", len(got), strings.Join(got, "\n"))
	}
}
