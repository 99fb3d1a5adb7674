package server_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"edeploy/server"
	"edeploy/server/api"
	"edeploy/server/wire"
)

// TestManyAddresses: a description with more addresses than a machine has is
// refused, before it costs anybody a turn.
func TestManyAddresses(t *testing.T) {
	l := startLab(t, seedFiles())
	h := vm(1)
	for n := range 49_990 {
		h = append(h, fact("network", "eth1", "serial", fmt.Sprintf("02:01:00:%02x:%02x:%02x", n>>16, n>>8&255, n&255)))
	}
	start := time.Now()
	a := l.upload(h)
	if text := wire.ParseRefusal(a.body); a.status != http.StatusUnprocessableEntity || !strings.Contains(text, "it names 49991") {
		t.Errorf("%d %s", a.status, text)
	}
	if took := time.Since(start); took > 45*time.Second { // a minute in the turn before
		t.Errorf("it took %s", took)
	}
	id := h.Identity()
	id.MACs = id.MACs[:300]
	l.report(wire.Report{Machine: id, Step: wire.StepDevices, Status: wire.StatusStarted}, http.StatusUnprocessableEntity)
	if got := len(l.machines()); got != 0 {
		t.Errorf("%d machines are known", got)
	}
	l.mustGet(h[:200])
}

// stranger reports as a machine that nobody knows, from an address.
func (l *lab) stranger(n int, from string) int {
	body := fmt.Sprintf(`{"protocol": %d, "machine": {"macs": ["02:09:00:%02x:%02x:%02x"]}, "step": "devices", "status": "started"}`, wire.Protocol, n>>16, n>>8&255, n&255)
	r := httptest.NewRequest("POST", wire.ReportPath, strings.NewReader(body))
	r.RemoteAddr = from + ":1000"
	w := httptest.NewRecorder()
	l.server.Handler().ServeHTTP(w, r)
	return w.Code
}

// TestStrangers: reports of machines that do not exist push out each other,
// never a machine that holds something or was set by the operator, and a new
// machine always finds room.
func TestStrangers(t *testing.T) {
	files := seedFiles()
	l := newLab(t, files)
	l.limits = server.Limits{Machines: 10, NewPerPeer: 50}
	l.start()
	l.mustGet(vm(1))
	l.installed(vm(1))
	l.mustGet(vm(2))
	l.upload(tiny(3))
	l.boot(idOf(3), "hold", http.StatusOK)
	for n := range 40 {
		if got := l.stranger(n, "10.0.0.9"); got != http.StatusOK {
			t.Fatalf("stranger %d: %d", n, got)
		}
	}
	l.restart()
	if got := len(l.machines()); got != 10 {
		t.Errorf("%d machines are known, want 10", got)
	}
	for n := 1; n <= 3; n++ {
		l.machine(idOf(n)) // fails when it is gone
	}
	l.mustGet(vm(4))
	var gone struct{ Forgotten int }
	if a := l.do("DELETE", "/api/v1/machines", "", nil); a.status != http.StatusBadRequest {
		t.Errorf("without a word about strangers: %d", a.status)
	}
	a := l.do("DELETE", "/api/v1/machines?strangers=1", "", nil)
	if err := unmarshal(a.body, &gone); err != nil || gone.Forgotten != 6 || len(l.machines()) != 4 {
		t.Errorf("%s; %d are left", a.body, len(l.machines()))
	}
}

// TestStrangersShare: one peer makes machines known at a bounded pace, and the
// others are served meanwhile.
func TestStrangersShare(t *testing.T) {
	l := newLab(t, seedFiles())
	l.limits = server.Limits{NewPerPeer: 5}
	l.start()
	refused := 0
	for n := range 20 {
		if l.stranger(n, "10.0.0.9") == http.StatusServiceUnavailable {
			refused++
		}
	}
	if refused == 0 {
		t.Error("one peer makes machines known without end")
	}
	if got := l.stranger(100, "10.0.0.10"); got != http.StatusOK {
		t.Errorf("another peer: %d", got)
	}
	if got := l.stranger(0, "10.0.0.9"); got != http.StatusOK {
		t.Errorf("a machine that is known by now: %d", got)
	}
}

// TestUnreadLists: lists that nobody reads take little memory, and go on
// being answered to others.
func TestUnreadLists(t *testing.T) {
	const lists = 150
	l := newLab(t, seedFiles())
	l.quiet = true
	l.limits = server.Limits{NewPerPeer: 5000}
	l.start()
	for n := range 1000 {
		if got := l.stranger(n, "10.0.0.9"); got != http.StatusOK {
			t.Fatalf("stranger %d: %d", n, got)
		}
	}
	var over atomic.Int32
	handler := l.server.Handler()
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(w, r)
		if w.Header().Get("Retry-After") == "" { // it was not sent away
			over.Add(1)
		}
	}))
	web.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if err := c.(*net.TCPConn).SetWriteBuffer(4 << 10); err != nil { // a whole list would fit into the usual one
			t.Error(err)
		}
		return ctx
	}
	web.Start()
	defer web.Close()
	before := heap()
	for range lists {
		c, err := net.Dial("tcp", web.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.(*net.TCPConn).SetReadBuffer(1 << 10); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, "GET /api/v1/machines HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	var all []api.Machine
	l.get("/api/v1/machines", &all) // comes from another address
	if len(all) != 1000 {
		t.Errorf("%d machines in the list", len(all))
	}
	all = nil
	if more := heap() - before; more > 32<<20 {
		t.Errorf("%d lists that nobody reads take %d MB", lists, more>>20)
	}
	if n := over.Load(); n > 0 {
		t.Errorf("%d lists went out whole, although nobody read them", n)
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestPlacesShare: one peer that never finishes its uploads leaves places to
// the others.
func TestPlacesShare(t *testing.T) {
	l := newLab(t, seedFiles())
	l.limits = server.Limits{Uploads: 8, Wait: 3 * time.Second}
	l.start()
	web := httptest.NewServer(l.server.Handler())
	defer web.Close()
	var ends []func()
	for range 2 { // its share
		ends = append(ends, startUpload(t, web))
	}
	r, err := http.NewRequest("POST", web.URL+"/upload.py", strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	kind, body := form("file/hw.json", encode(vm(9)))
	r.Header.Set("Content-Type", kind)
	r.Body = io.NopCloser(body)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(text), "busy with 2 uploads of 127.0.0.1, its share") {
		t.Errorf("a third upload of it: %d %s %v", resp.StatusCode, text, err)
	}
	var all sync.WaitGroup
	for n := 1; n <= 4; n++ {
		all.Go(func() { l.mustGet(vm(n)) }) // from another address
	}
	all.Wait()
	for _, end := range ends {
		end()
	}
}

// TestLargeState: as many profiles as a state file may have cost a push and an
// upload seconds at most, and more are refused with a sentence.
func TestLargeState(t *testing.T) {
	l := startLab(t, seedFiles())
	l.mustGet(vm(1))
	list := func(n, count int) string {
		var b strings.Builder
		b.WriteString("[")
		for i := range n {
			fmt.Fprintf(&b, "('p%d', %d), ", i, count)
		}
		return b.String() + "('vm', '*')]\n"
	}
	push := func(text string, want int) answer {
		t.Helper()
		start := time.Now()
		a := l.do("PUT", "/api/v1/config/SERVER/state?force=1", "", strings.NewReader(text))
		if took := time.Since(start); a.status != want || took > 30*time.Second {
			t.Errorf("push: %d in %s, want %d: %.300s", a.status, took, want, a.body)
		}
		return a
	}
	push(list(9_000, 1), http.StatusOK)
	push(list(9_000, 2), http.StatusOK)
	start := time.Now()
	l.mustGet(vm(2))
	if a := l.upload(tiny(3)); a.status != http.StatusNotFound || len(a.body) > 64<<10 {
		t.Errorf("one that fits nothing: %d, %d bytes", a.status, len(a.body))
	}
	l.server.Problems()
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("two uploads and the problems took %s", took)
	}
	if a := l.do("PUT", "/api/v1/config/SERVER/state", "", strings.NewReader(list(60_000, 1))); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, "10000 are taken") {
		t.Errorf("60,000 profiles: %d %.300s", a.status, a.body)
	}
}

// TestSlowEditors: one peer that never finishes its changes of the
// configuration leaves a place to others.
func TestSlowEditors(t *testing.T) {
	l := startLab(t, seedFiles())
	web := httptest.NewServer(l.server.Handler())
	defer web.Close()
	for range 8 {
		c, err := net.Dial("tcp", web.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "PUT /api/v1/config/SERVER/new.specs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n["); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan answer)
	go func() { done <- l.do("PUT", "/api/v1/config/SERVER/state", "", strings.NewReader("[('vm', 3)]\n")) }()
	select {
	case a := <-done:
		if a.status != http.StatusOK {
			t.Errorf("%d %s", a.status, a.body)
		}
	case <-time.After(20 * time.Second):
		t.Error("a change of another peer waits for them")
	}
}
