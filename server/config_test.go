package server_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"edeploy/server/api"
	"edeploy/server/internal/allocation"
	"edeploy/server/internal/fileset"

	"github.com/google/go-cmp/cmp"
)

// edit sends an operator's request with headers (name, value, ...).
func (l *lab) edit(method, path, body string, headers ...string) (answer, http.Header) {
	r := httptest.NewRequest(method, "/api/v1/config"+path, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	l.server.Handler().ServeHTTP(w, r)
	return answer{w.Code, w.Header().Get("Content-Type"), w.Body.String()}, w.Header()
}

// push replaces files together and expects the status.
func (l *lab) push(set api.ConfigSet, query string, want int) api.Replaced {
	l.t.Helper()
	body, err := json.Marshal(set)
	if err != nil {
		l.t.Fatal(err)
	}
	a, _ := l.edit("PUT", "/SERVER"+query, string(body))
	if a.status != want {
		l.t.Fatalf("push: status %d, want %d: %s", a.status, want, a.body)
	}
	var r api.Replaced
	if err := json.Unmarshal([]byte(a.body), &r); err != nil {
		l.t.Fatal(err)
	}
	return r
}

// files are the files of the configuration directory.
func (l *lab) files() map[string]string {
	l.t.Helper()
	entries, err := os.ReadDir(l.config)
	if err != nil {
		l.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if l.memory != nil {
		documents, _ := l.memory.List(allocation.Collection(l.named)) // it cannot fail
		for _, name := range documents {
			names = append(names, strings.TrimPrefix(name, l.document("")))
		}
	}
	all := map[string]string{}
	for _, name := range names {
		if !strings.HasSuffix(name, ".hw") {
			all[name] = l.read(name)
		}
	}
	return all
}

func TestConfigFile(t *testing.T) {
	largest := "set_role('a', '1', 'b')\n#"
	largest += strings.Repeat("x", fileset.MaxFileBytes-len(largest))
	good := etagOf(t, vmSpecs)
	for _, tt := range []struct {
		name, method, path, body string
		match                    string // If-Match
		status                   int
		says                     string
		file, text               string // what the file holds afterwards; none: nothing has changed
	}{
		{"read", "GET", "/SERVER/vm.specs", "", "", 200, vmSpecs, "", ""},
		{"read nothing", "GET", "/SERVER/no.specs", "", "", 404, "has no file no.specs", "", ""},
		{"read from nowhere", "GET", "/OTHER/vm.specs", "", "", 404, `no section`, "", ""},
		{"read something else", "GET", "/SERVER/passwd", "", "", 400, "want state", "", ""},
		{"read outside", "GET", "/SERVER/..%2f..%2fpasswd", "", "", 400, "file name", "", ""},
		{"read hidden", "GET", "/SERVER/.x.specs", "", "", 400, "dot", "", ""},
		{"replace", "PUT", "/SERVER/vm.specs", "[]\n", "", 200, `"vm.specs"`, "vm.specs", "[]\n"},
		{"replace by the same", "PUT", "/SERVER/vm.specs", vmSpecs, "", 200, `"unchanged"`, "", ""},
		{"make", "PUT", "/SERVER/new.configure", "set_role('a', '1', 'b')", "", 200, `"added"`, "new.configure", "set_role('a', '1', 'b')"},
		{"make an empty one", "PUT", "/SERVER/new.specs", "", "", 422, "file is empty", "", ""},
		{"script that cannot run", "PUT", "/SERVER/new.configure", "set_role('a', '1', b)\n  x", "", 422, "new.configure:2:3: unexpected indent", "", ""},
		{"script that cannot run, forced", "PUT", "/SERVER/new.configure?force=1", "set_role('a', '1', b)", "", 200, "new.configure:1:20: undefined: b", "new.configure", "set_role('a', '1', b)"},
		{"script without set_role", "PUT", "/SERVER/new.configure", "", "", 422, "never calls set_role", "", ""},
		{"compare and swap", "PUT", "/SERVER/vm.specs", "[]", good, 200, "", "vm.specs", "[]"},
		{"any version", "PUT", "/SERVER/vm.specs", "[]", "*", 200, "", "vm.specs", "[]"},
		{"one of several", "PUT", "/SERVER/vm.specs", "[]", `"x", ` + good, 200, "", "vm.specs", "[]"},
		{"another version", "PUT", "/SERVER/vm.specs", "[]", `"x"`, 412, "was changed since", "", ""},
		{"any version of nothing", "PUT", "/SERVER/new.specs", "[]", "*", 412, "not there any more", "", ""},
		{"broken", "PUT", "/SERVER/vm.specs", "[\n(", "", 422, `"line": 2`, "", ""},
		{"broken, forced", "PUT", "/SERVER/vm.specs?force=1", "[\n(", "", 200, `"line": 2`, "vm.specs", "[\n("},
		{"broken, forced otherwise", "PUT", "/SERVER/vm.specs?force=0", "[\n(", "", 422, `"column": 1`, "", ""},
		{"broken state", "PUT", "/SERVER/state", "[('vm', 'x')]", "", 422, `"column": 9`, "", ""},
		{"binary", "PUT", "/SERVER/vm.configure", "\xff", "", 422, "UTF-8", "", ""},
		{"original", "PUT", "/SERVER/vm.cmdb.orig", "[]", "", 400, "bring vm.cmdb", "", ""},
		{"too large", "PUT", "/SERVER/vm.configure", strings.Repeat("x", fileset.MaxFileBytes+1), "", 413, "may have", "", ""},
		{"largest", "PUT", "/SERVER/new.configure", largest, "", 200, "", "new.configure", largest},
		{"remove", "DELETE", "/SERVER/vm.specs", "", "", 200, `"removed"`, "vm.specs", "absent"},
		{"remove this version", "DELETE", "/SERVER/vm.specs", "", good, 200, "", "vm.specs", "absent"},
		{"remove another version", "DELETE", "/SERVER/vm.specs", "", `"x"`, 412, "was changed", "", ""},
		{"remove nothing", "DELETE", "/SERVER/no.specs", "", "", 404, "has no file", "", ""},
		{"remove the state", "DELETE", "/SERVER/state", "", "", 422, "no machine gets anything", "", ""},
		{"remove the state, forced", "DELETE", "/SERVER/state?force=1", "", "", 200, "", "state", "absent"},
		{"POST", "POST", "/SERVER/state", "", "", 405, "takes", "", ""},
		{"GET of a section", "GET", "/SERVER", "", "", 405, "takes PUT", "", ""},

		{"set that is no JSON", "PUT", "/SERVER", "x", "", 400, "want a body", "", ""},
		{"set with an unknown key", "PUT", "/SERVER", `{"files": {"a.specs": "[]"}, "purge": true}`, "", 400, "purge", "", ""},
		{"set with more behind it", "PUT", "/SERVER", `{"files": {"a.specs": "[]"}} {}`, "", 400, "behind", "", ""},
		{"set without files", "PUT", "/SERVER", `{"prune": true}`, "", 400, "no files", "", ""},
		{"set with a bad name", "PUT", "/SERVER", `{"files": {"a.specs": "[]", "../b.specs": "[]"}}`, "", 400, "dot", "", ""},
		{"set with an original", "PUT", "/SERVER", `{"files": {"a.cmdb.orig": "[]"}}`, "", 400, "bring a.cmdb", "", ""},
		{"set that is binary", "PUT", "/SERVER", "{\"files\": {\"a.configure\": \"\xff\"}}", "", 400, "UTF-8", "", ""},
		{"set for nowhere", "PUT", "/OTHER", `{"files": {"a.specs": "[]"}}`, "", 404, "no section", "", ""},
		{"set with a large file", "PUT", "/SERVER", `{"files": {"a.specs": "` + strings.Repeat(" ", fileset.MaxFileBytes+1) + `"}}`, "", 413, "a.specs may have", "", ""},
		{"set that is too large", "PUT", "/SERVER", `{"files": {"a.specs": "` + strings.Repeat(" ", 2*fileset.MaxBytes) + `"}}`, "", 413, "the set of files may have", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := startLab(t, seedFiles())
			want := l.files()
			a, header := l.edit(tt.method, tt.path, tt.body, "If-Match", tt.match)
			if a.status != tt.status || !strings.Contains(a.body, tt.says) {
				t.Errorf("status %d, want %d with %q: %s", a.status, tt.status, tt.says, a.body)
			}
			if a.status >= 400 && !strings.Contains(a.body, `"error": "`) {
				t.Errorf("no error in %s", a.body)
			}
			want[tt.file] = tt.text
			if tt.text == "absent" || tt.file == "" {
				delete(want, tt.file)
			}
			if diff := cmp.Diff(want, l.files()); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			if tt.method == "PUT" && a.status == 200 && header.Get("ETag") != etagOf(t, tt.text) && tt.file != "" {
				t.Errorf("ETag %s, want that of the text", header.Get("ETag"))
			}
		})
	}
}

// etagOf is the ETag of a file with that text.
func etagOf(t *testing.T, text string) string {
	t.Helper()
	l := startLab(t, map[string]string{"x.configure": text})
	a, header := l.edit("GET", "/SERVER/x.configure", "")
	if a.status != http.StatusOK || a.kind != "text/plain; charset=utf-8" || header.Get("X-Content-Type-Options") != "nosniff" {
		t.Fatalf("GET: %d %v", a.status, header)
	}
	return header.Get("ETag")
}

func TestListConfig(t *testing.T) {
	l := startLab(t, map[string]string{"state": "[]", "vm.specs": "[ ]", "vm.cmdb.orig": "x", "README": "x", "a.log.gz": "x", ".vm.specs": "x"})
	var all []api.ConfigFile
	l.get("/api/v1/config", &all)
	var got []string
	for _, f := range all {
		if f.Modified.IsZero() {
			t.Errorf("%s has no time", f.Name)
		}
		got = append(got, fmt.Sprint(f.Section, "/", f.Name, " ", f.Bytes))
	}
	if diff := cmp.Diff([]string{"SERVER/state 2", "SERVER/vm.cmdb.orig 1", "SERVER/vm.specs 3"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestPush: files are replaced together; broken ones change nothing.
func TestPush(t *testing.T) {
	l := startLab(t, map[string]string{"README": "mine", "old.cmdb.orig": "x", "old.cmdb": "[]"})
	if a := l.upload(vm(1)); a.status != http.StatusServiceUnavailable {
		t.Fatalf("without profiles: status %d", a.status)
	}
	files := seedFiles()
	delete(files, "hp.specs")
	got := l.push(api.ConfigSet{Files: files}, "", 200)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(files)), got.Added); diff != "" {
		t.Errorf("added (-want +got):\n%s", diff)
	}
	if len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0].Text, "no hp.specs") {
		t.Errorf("warnings: %+v", got.Warnings)
	}
	l.mustGet(vm(1))

	before := l.files()
	files = seedFiles()
	files["hp.specs"], files["vm.cmdb"], files["state"] = "[\n ('disk' 'x')]", "[{'ip': 10.0.0.2}]", "[('hp', 9)]"
	body, err := json.Marshal(api.ConfigSet{Files: files, Prune: true})
	if err != nil {
		t.Fatal(err)
	}
	a, _ := l.edit("PUT", "/SERVER", string(body))
	var refused struct {
		Error    string
		Problems []api.Problem
	}
	if err := json.Unmarshal([]byte(a.body), &refused); err != nil || a.status != http.StatusUnprocessableEntity {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
	var places []string
	for _, p := range refused.Problems {
		places = append(places, fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column))
	}
	if diff := cmp.Diff([]string{"hp.specs:2:2", "vm.cmdb:1:9"}, places); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, l.files()); diff != "" {
		t.Errorf("a refused push changed (-before +after):\n%s", diff)
	}

	files = map[string]string{"vm.specs": vmSpecs, "vm.cmdb": vmCMDB, "vm.configure": "set_role('a', '1', 'b')\n", "state": "[('vm', 3)]\n"}
	got = l.push(api.ConfigSet{Files: files, Prune: true}, "", 200)
	want := api.Replaced{Changed: []string{"state", "vm.configure"}, Unchanged: []string{"vm.cmdb", "vm.specs"},
		Removed: []string{"hp.configure", "old.cmdb", "old.cmdb.orig"}, Counts: []string{"hp: 4 -> none", "vm: * -> 3"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := slices.Sorted(maps.Keys(l.files())); !slices.Equal(got, []string{"README", "state", "vm.cmdb", "vm.cmdb.orig", "vm.configure", "vm.specs"}) {
		t.Errorf("files: %v", got)
	}
	l.push(api.ConfigSet{Files: map[string]string{"vm.cmdb": "["}}, "?force=1", 200)
	if l.read("vm.cmdb") != "[" {
		t.Error("the forced file is not stored")
	}
}

// TestPushKeepsHolders: whatever is pushed, nobody gets the entry of a machine
// that holds it, and the machine can give it back.
func TestPushKeepsHolders(t *testing.T) {
	l := startLab(t, countedFiles(5))
	l.mustGet(vm(1))
	l.mustGet(vm(2))
	l.installed(vm(1))
	held := l.read("vm.cmdb")
	got := l.push(api.ConfigSet{Files: map[string]string{"vm.cmdb": countedFiles(5)["vm.cmdb"], "vm.specs": vmSpecs}}, "", 200)
	if len(got.Unchanged) != 2 || len(got.Warnings) != 0 || l.read("vm.cmdb") != held {
		t.Errorf("the same again: %+v\n%s", got, l.read("vm.cmdb"))
	}
	l.books(5, 1, 2)

	dns := strings.Replace(countedFiles(5)["vm.cmdb"], "{", "{'dns': '9.9.9.9', ", 1)
	l.push(api.ConfigSet{Files: map[string]string{"vm.cmdb": dns}}, "", 200)
	if l.read("vm.cmdb.orig") != dns {
		t.Errorf("orig: %s", l.read("vm.cmdb.orig"))
	}
	l.mustGet(vm(3))
	l.books(5, 1, 2, 3)
	if got := variables(t, l.mustGet(vm(2)))["dns"]; got != "9.9.9.9" {
		t.Errorf("machine 2 asks again: dns %v", got)
	}
	l.restart() // the records say the same from the disk
	l.fail("vm", vm(2))
	l.books(5, 1, 3)
	if strings.Contains(l.read("vm.cmdb"), mac(2)) {
		t.Error("machine 2 left something in the CMDB")
	}

	got = l.push(api.ConfigSet{Files: map[string]string{"vm.cmdb": "generate({'ip': '10.9.0.1-5'})", "state": "[('other', 1)]"}}, "", 200)
	var texts []string
	for _, w := range got.Warnings {
		texts = append(texts, w.Text)
	}
	all := strings.Join(texts, "\n")
	for _, want := range []string{"machine " + idOf(1) + " holds an entry that vm.cmdb has not any more", "machine " + idOf(3) + " holds profile vm, which the new state does not have"} {
		if !strings.Contains(all, want) {
			t.Errorf("warnings lack %q:\n%s", want, all)
		}
	}
	a, _ := l.edit("DELETE", "/SERVER/vm.cmdb", "")
	if a.status != 200 || !strings.Contains(a.body, "machine "+idOf(1)+" holds an entry of vm.cmdb, which is gone") || l.text("vm.cmdb.orig") != "absent" {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := l.do("DELETE", "/api/v1/machines/"+idOf(1)+"?force=1", "", nil); a.status != http.StatusOK {
		t.Errorf("forget: %d %s", a.status, a.body)
	}
}

// TestPushWhileMachinesAsk: pushes of two versions of the profile between
// uploads and failure reports of twenty machines leave the books right.
func TestPushWhileMachinesAsk(t *testing.T) {
	const machines = 20
	l := startLab(t, countedFiles(machines))
	versions := []string{countedFiles(machines)["vm.cmdb"], strings.Replace(countedFiles(machines)["vm.cmdb"], "{", "{'dns': '9.9.9.9', ", 1)}
	var asking, pushing sync.WaitGroup
	for n := range machines {
		asking.Go(func() {
			for _, act := range []func() answer{
				func() answer { return l.upload(vm(n)) }, func() answer { return l.fail("vm", vm(n)) },
				func() answer { return l.upload(vm(n)) }, func() answer { return l.upload(vm(n)) },
			} {
				if a := act(); a.status != http.StatusOK {
					t.Errorf("machine %d: status %d: %s", n, a.status, a.body)
				}
			}
		})
	}
	over := make(chan struct{})
	for p := range versions {
		pushing.Go(func() {
			for n := p; ; n++ {
				select {
				case <-over:
					return
				default:
				}
				body, _ := json.Marshal(api.ConfigSet{Files: map[string]string{"vm.cmdb": versions[n%2], "vm.specs": vmSpecs}, Prune: false})
				if a, _ := l.edit("PUT", "/SERVER", string(body)); a.status != http.StatusOK {
					t.Errorf("push: status %d: %s", a.status, a.body)
					return
				}
				l.edit("GET", "", "")
			}
		})
	}
	asking.Wait()
	close(over)
	pushing.Wait()
	var holders []int
	for n := range machines {
		holders = append(holders, n)
	}
	l.books(machines, holders...)
	for n := range machines { // an entry is found again under its newest text
		l.mustGet(vm(n))
		l.fail("vm", vm(n))
	}
	l.books(machines)
}

// TestRefusedMachinesAreShown: a machine that never got anything is in the
// list, with the reason.
func TestRefusedMachinesAreShown(t *testing.T) {
	for _, tt := range []struct {
		name, file, text string
		says             string
	}{
		{"nothing fits", "vm.specs", "[('disk', '$disk', 'size', 'gt(4000)')]", "gt(4000)"},
		{"counts used up", "state", "[('hp', 0), ('vm', 0)]", "No more role available"},
		{"CMDB used up", "vm.cmdb", "[{'ip': '10.0.0.1', 'used': 1}]", "No more entry in the CMDB"},
		{"broken state", "state", "[('vm'", "state:1:"},
		{"broken CMDB", "vm.cmdb", "[{", "vm.cmdb:1:"},
		{"broken specs", "vm.specs", "[(", "vm.specs:1:"},
		{"no variables", "vm.specs", "[('disk', 'vda', 'size', '40')]", "at least one variable"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := seedFiles()
			files[tt.file] = tt.text
			l := startLab(t, files)
			if a := l.upload(vm(1)); a.status < 400 {
				t.Fatalf("status %d", a.status)
			}
			all := l.machines()
			if len(all) != 1 || all[0].ID != idOf(1) || all[0].State != "failed" || all[0].Allocation != nil || !strings.Contains(all[0].LastError, tt.says) {
				t.Fatalf("machines: %+v", all)
			}
			last := l.machine(idOf(1)).History
			if len(last) == 0 || last[len(last)-1].Step != "match" || last[len(last)-1].Status != "failed" || !strings.Contains(last[len(last)-1].Message, tt.says) {
				t.Errorf("history: %+v", last)
			}
			if text := l.text(filepath.Base(tt.file)); text != tt.text {
				t.Errorf("%s is now %s", tt.file, text)
			}
		})
	}
}
