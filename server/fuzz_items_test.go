package server_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edeploy/server"
	"edeploy/server/wire"
)

// FuzzItems: a description whose items are anything (wrong arity, huge numbers,
// deep nesting, no UTF-8), with names for files in it such as a board's DMI
// strings may hold: nothing is written outside the directories, the answer
// comes soon, and it is an answer.
func FuzzItems(f *testing.F) {
	for _, items := range []string{
		`["disk","vda","size","40"]`,
		`["disk","vda","size"]`,
		`["disk","vda","size","40","41"]`,
		`[]`, `{}`, `null`, `"x"`, `1`,
		`["disk","vda","size",1e308]`, `["disk","vda","size",1e999]`, `["disk","vda","size",-0]`,
		`["disk","vda","size",123456789012345678901234567890]`,
		`["disk","vda","size",9223372036854775808]`,
		strings.Repeat("[", 200) + strings.Repeat("]", 200),
		`["disk","vda","size",` + strings.Repeat(`{"a":`, 50) + `1` + strings.Repeat("}", 50) + `]`,
		"[\"disk\",\"vda\",\"size\",\"\xff\xfe\"]",
		`["disk","vda","size","\ud800"]`,
		`["disk","vda","size","gt(gt(gt(1)))"]`,
		`["network","eth1","serial","../../../../etc/passwd"]`,
		`["system","product","name","a\u0000b\n\u001b[2J"],["disk","vda","size","nan"]`,
		`[null,true,1.5,false]`,
	} {
		f.Add([]byte(items), "../../etc/passwd", "..\\..\\x;rm -rf /")
	}
	f.Add([]byte(`["disk","vda","size","40"]`), ".", "state")
	f.Add([]byte(`["disk","vda","size","40"]`), strings.Repeat("A", 5000), "\x00")
	l := newLab(f, seedFiles())
	l.quiet = true
	l.limits = server.Limits{Machines: 50, ArchiveBytes: 1 << 20}
	l.start()
	f.Fuzz(func(t *testing.T, items []byte, product, serial string) {
		name, err := json.Marshal(product)
		if err != nil {
			t.Fatal(err)
		}
		number, err := json.Marshal(serial)
		if err != nil {
			t.Fatal(err)
		}
		var body bytes.Buffer
		body.WriteString(`[["network","eth0","serial","02:00:00:00:00:01"],["network","eth0","ipv4","192.168.122.9"],["system","product","name",`)
		body.Write(name)
		body.WriteString(`],["system","product","serial",`)
		body.Write(number)
		body.WriteString(`],`)
		body.Write(items)
		body.WriteString(`]`)
		start := time.Now()
		a := l.post("file/hw.json", body.String())
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("it took %s", took)
		}
		checkAnswer(t, a)
		l.checkDirectories(t)
	})
}

// checkAnswer: an answer is a configuration, nothing, or a refusal with a
// sentence.
func checkAnswer(t *testing.T, a answer) {
	t.Helper()
	switch {
	case a.status == http.StatusInternalServerError:
		t.Errorf("status 500: %s", a.body)
	case a.status != http.StatusOK && strings.TrimSpace(wire.ParseRefusal(a.body)) == "":
		t.Errorf("status %d without a sentence: %q", a.status, a.body)
	case a.status == http.StatusOK && a.body != "":
		if _, err := wire.ParseConfiguration(a.body); err != nil {
			t.Errorf("the answer is no configuration: %v", err)
		}
	}
}

// checkDirectories: there is nothing but what the server writes, and nothing
// beside its directories.
func (l *lab) checkDirectories(t *testing.T) {
	t.Helper()
	known := map[string]bool{"machines": true, "forgotten": true, "history": true, "spool": true, "lock": true, "lock-SERVER": true, "journal": true}
	entries, err := os.ReadDir(l.state)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !known[e.Name()] {
			t.Errorf("state directory: %s", e.Name())
		}
	}
	files := seedFiles()
	err = filepath.WalkDir(l.config, func(path string, e fs.DirEntry, err error) error {
		_, own := files[e.Name()]
		if path != l.config && !own && e.Name() != "vm.cmdb.orig" && !strings.HasSuffix(e.Name(), ".hw") && !strings.HasSuffix(e.Name(), ".log.gz") || e.IsDir() && path != l.config {
			t.Errorf("configuration directory: %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	parent, err := os.ReadDir(filepath.Dir(l.config))
	if err != nil || len(parent) != 2 { // the two directories of the lab
		t.Errorf("beside the directories: %v %v", parent, err)
	}
}
