package server_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"edeploy/server"
	"edeploy/server/internal/flock"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

func TestPaths(t *testing.T) {
	files := seedFiles()
	files["authorized_keys"] = "# nobody\n"
	l := startLab(t, files)
	kind, body := form("file/hw.json", encode(vm(1)))
	upload := body.String()
	for _, tt := range []struct {
		method, path string
		kind, body   string
		status       int
		answer       string
	}{
		{"POST", "/cgi-bin/upload.py", kind, upload, 200, "text/x-python"},
		{"POST", "//cgi-bin//upload.py", kind, upload, 200, "text/x-python"},
		{"POST", "/upload.py", kind, upload, 200, "text/x-python"},
		{"POST", "/a/../b//upload.py", kind, upload, 200, "text/x-python"},
		{"GET", "/api/v1/machines", "", "", 200, "application/json"},
		{"GET", "/api/v1/machines/" + idOf(1), "", "", 200, "application/json"},
		{"GET", "/api/v1/machines/" + strings.ToUpper(mac(1)), "", "", 200, "application/json"},
		{"GET", "/api/v1/machines/nobody", "", "", 404, "application/json"},
		{"GET", "/api/v1/version", "", "", 200, "application/json"},
		{"GET", "/api/v1/problems", "", "", 200, "application/json"},
		{"GET", "/", "", "", 404, "application/json"},
		{"GET", "/upload.pyc", "", "", 404, "application/json"},
		{"GET", "/api/v2/machines", "", "", 404, "application/json"},
		{"PUT", "/api/v1/machines", "", "", 405, "application/json"},
		{"GET", wire.ReportPath, "", "", 405, "application/json"},
		{"GET", wire.KeysPath + "SERVER", "", "", 200, "text/plain; charset=utf-8"},
		{"GET", wire.KeysPath + "OTHER", "", "", 404, "application/json"},
		{"GET", wire.KeysPath + "SERVER/state", "", "", 404, "application/json"},
		{"PUT", "/api/v1/machines/" + idOf(1) + "/boot", "application/json", "{", 400, "application/json"},
		{"PUT", "/api/v1/machines/" + idOf(1) + "/boot", "application/json", `{"action":"` + strings.Repeat("x", 5000) + `"}`, 400, "application/json"},
		{"DELETE", "/api/v1/machines/nobody", "", "", 404, "application/json"},
	} {
		a := l.do(tt.method, tt.path, tt.kind, strings.NewReader(tt.body))
		if a.status != tt.status || a.kind != tt.answer {
			t.Errorf("%s %s: %d %s, want %d %s: %s", tt.method, tt.path, a.status, a.kind, tt.status, tt.answer, a.body)
		}
		if a.status >= 400 && !strings.Contains(a.body, `"error": "`) {
			t.Errorf("%s %s: no error in %s", tt.method, tt.path, a.body)
		}
	}
	var v map[string]any
	l.get("/api/v1/version", &v)
	if diff := cmp.Diff(map[string]any{"version": "test", "protocol": float64(wire.Protocol)}, v); diff != "" {
		t.Errorf("version (-want +got):\n%s", diff)
	}
}

// TestPanic: a defect in answering one request is an answer, not an end.
func TestPanic(t *testing.T) {
	l := newLab(t, seedFiles())
	settings := l.settings()
	var defect atomic.Bool
	settings.Now = func() time.Time {
		if defect.Swap(false) {
			panic("defect")
		}
		return l.clock.Now()
	}
	l.startWith(settings)
	defect.Store(true)
	if a := l.upload(vm(1)); a.status != http.StatusInternalServerError || !strings.Contains(wire.ParseRefusal(a.body), "defect") {
		t.Errorf("status %d: %s", a.status, a.body)
	}
	if a := l.do("GET", "/api/v1/machines", "", nil); a.status != http.StatusOK {
		t.Errorf("afterwards: status %d", a.status)
	}
}

// TestBusy: a lock that somebody else holds, and places that are taken, end in
// a clear answer.
func TestBusy(t *testing.T) {
	l := newLab(t, seedFiles())
	l.limits = server.Limits{Uploads: 1, Wait: 50 * time.Millisecond}
	l.start()
	lock, err := flock.Try(filepath.Join(l.state, "lock-SERVER"))
	if err != nil {
		t.Fatal(err)
	}
	if a := l.upload(vm(1)); a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "lock-SERVER") {
		t.Errorf("while the lock is held: status %d: %s", a.status, a.body)
	}
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
	l.mustGet(vm(1))

	web := httptest.NewServer(l.server.Handler())
	defer web.Close()
	slow := startUpload(t, web)
	if a := l.upload(vm(1)); a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "busy with 1 uploads") {
		t.Errorf("while the place is taken: status %d: %s", a.status, a.body)
	}
	slow()
	deadline := time.Now().Add(10 * time.Second)
	for l.upload(vm(1)).status != http.StatusOK {
		if time.Now().After(deadline) {
			t.Fatal("the place is never free again")
		}
	}
}

// startUpload begins an upload and stops in the middle of it; the server has
// it in work when startUpload returns. The answer ends it.
func startUpload(t *testing.T, web *httptest.Server) (end func()) {
	t.Helper()
	started := make(chan struct{})
	release := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	kind, whole := form("file/hw.json", encode(vm(9)))
	r, err := http.NewRequestWithContext(ctx, "POST", web.URL+"/upload.py", &stopping{text: whole.String(), started: started, release: release})
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", kind)
	r.Header.Set("Expect", "100-continue") // the body is read when the server reads it
	done := make(chan struct{})
	go func() {
		defer close(done)
		if resp, err := http.DefaultClient.Do(r); err == nil {
			resp.Body.Close()
		}
	}()
	select {
	case <-started:
	case <-time.After(10 * time.Second):
		t.Fatal("the server does not read the body")
	}
	return func() { cancel(); close(release); <-done }
}

// stopping is a body that stops after its first bytes.
type stopping struct {
	text             string
	started, release chan struct{}
	once             bool
}

func (s *stopping) Read(b []byte) (int, error) {
	if !s.once {
		s.once = true
		return copy(b, s.text[:20]), nil
	}
	close(s.started)
	<-s.release
	return 0, http.ErrAbortHandler
}

func TestNewRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name        string
		deployments map[string]server.Deployment
		says        string
	}{
		{"nothing", nil, "needs a section"},
		{"no such directory", map[string]server.Deployment{"SERVER": {ConfigDir: filepath.Join(dir, "none")}}, "deployment SERVER: CONFIGDIR: stat"},
		{"a file", map[string]server.Deployment{"SERVER": {ConfigDir: file}}, "is no directory"},
		{"bad name", map[string]server.Deployment{"a/b": {ConfigDir: dir}}, "cannot be used"},
		{"lock file in a file", map[string]server.Deployment{"SERVER": {ConfigDir: dir, LockFile: filepath.Join(file, "lock")}}, "LOCKFILE"},
		{"bad URL", map[string]server.Deployment{"SERVER": {ConfigDir: dir, MetadataURL: "http://x/$(reboot)"}}, "METADATAURL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := server.New(server.Config{Deployments: tt.deployments, StateDir: t.TempDir()})
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want an error with %q", err, tt.says)
			}
		})
	}
}

// TestBrokenRecord: a record that was mended is put back, and the machine
// holds what it held.
func TestBrokenRecord(t *testing.T) {
	l := startLab(t, seedFiles())
	l.mustGet(vm(1))
	path := filepath.Join(l.state, "machines", idOf(1)+".json")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	l.restart()
	if a := l.upload(vm(1)); a.status != http.StatusConflict {
		t.Errorf("status %d: %s", a.status, a.body)
	}
	l.stop()
	if err := os.WriteFile(path, good, 0o644); err != nil {
		t.Fatal(err)
	}
	l.start()
	if !l.problemSays(idOf(1) + ".json.broken") {
		t.Errorf("problems: %+v", l.server.Problems())
	}
	if err := os.Remove(path + ".broken"); err != nil {
		t.Fatal(err)
	}
	if got := l.server.Problems(); len(got) != 0 {
		t.Errorf("problems: %+v", got)
	}
	if got := variables(t, l.mustGet(vm(1))); got["ip"] != "192.168.122.3" {
		t.Errorf("with the record back: %v", got["ip"])
	}
}

// TestRun: ready, then over when the context ends.
func TestRun(t *testing.T) {
	l := startLab(t, seedFiles())
	s := l.server
	l.server = nil
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	<-s.Ready()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestHandlers: what machines say and what operators steer are two handlers,
// and neither serves what is the other's.
func TestHandlers(t *testing.T) {
	l := startLab(t, seedFiles())
	for _, tt := range []struct {
		method, path        string
		machines, operators int
	}{
		{"GET", "/upload.py", 405, 404},
		{"GET", "/cgi-bin/upload.py", 405, 404},
		{"POST", "/api/v1/reports", 400, 404},
		{"GET", "/api/v1/reports", 405, 404},
		{"GET", "/api/v1/machines", 404, 200},
		{"DELETE", "/api/v1/machines/none", 404, 404},
		{"POST", "/api/v1/version", 404, 405},
	} {
		status := func(h http.Handler) int {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(tt.method, tt.path, nil))
			return w.Code
		}
		if m, o := status(l.server.Machines()), status(l.server.Operators()); m != tt.machines || o != tt.operators {
			t.Errorf("%s %s: %d from Machines, %d from Operators, want %d and %d", tt.method, tt.path, m, o, tt.machines, tt.operators)
		}
	}
}
