package server_test

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"edeploy/server/api"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

func (l *lab) explanation(n int) api.Explanation {
	l.t.Helper()
	var e api.Explanation
	l.get("/api/v1/machines/"+idOf(n)+"/explanation", &e)
	return e
}

// TestExplanation: per profile, line by line, what was bound and what came
// closest.
func TestExplanation(t *testing.T) {
	l := startLab(t, seedFiles())
	l.mustGet(vm(1))
	e := l.explanation(1)
	want := []api.ExplainedProfile{
		{Profile: "hp", Reason: "hp.specs line 1 finds nothing: ('disk', '1I:1:1', 'size', '$size')",
			Lines:   []api.ExplainedLine{{Line: 1, Spec: "('disk', '1I:1:1', 'size', '$size')"}},
			Closest: &api.ClosestFact{Fact: []string{"disk", "vda", "size", "40"}, Equal: 3, Why: []string{"'vda' is not '1I:1:1'"}}},
		{Profile: "vm", Fits: true, Lines: []api.ExplainedLine{
			{Line: 2, Spec: "('disk', '$disk', 'size', 'gt(4)')", Fact: []string{"disk", "vda", "size", "40"}, Bound: map[string]string{"disk": "vda"}},
			{Line: 3, Spec: "('network', '$eth', 'ipv4', 'network(192.168.122.0/24)')", Fact: []string{"network", "eth0", "ipv4", "192.168.122.101"}, Bound: map[string]string{"eth": "eth0"}},
			{Line: 4, Spec: "('network', '$eth', 'serial', '$mac')", Fact: []string{"network", "eth0", "serial", mac(1)}, Bound: map[string]string{"mac": mac(1)}},
		}},
	}
	if diff := cmp.Diff(want, e.Profiles); diff != "" {
		t.Errorf("profiles (-want +got):\n%s", diff)
	}
	if e.Profile != "vm" || e.Again || !strings.Contains(e.Entry, "host03") {
		t.Errorf("got %s again %v with %s", e.Profile, e.Again, e.Entry)
	}
	l.mustGet(vm(1))
	if e := l.explanation(1); e.Profile != "vm" || !e.Again {
		t.Errorf("asked again: %+v", e)
	}
}

// TestExplainedRefusal: the console of the machine gets a short form, and the
// explanation outlives the server.
func TestExplainedRefusal(t *testing.T) {
	l := startLab(t, seedFiles())
	a := l.upload(tiny(1))
	const closest = "closest: ('disk', 'vda', 'size', '2'): '2' is not gt(4)"
	if text := wire.ParseRefusal(a.body); a.status != http.StatusNotFound || !strings.Contains(text, closest) {
		t.Errorf("status %d: %s", a.status, text)
	}
	l.restart()
	e := l.explanation(1)
	if e.Profile != "" || !strings.Contains(e.Refused, closest) || len(e.Profiles) != 2 || e.Profiles[1].Closest.Equal != 3 {
		t.Errorf("explanation %+v", e)
	}
	l.do("DELETE", "/api/v1/machines/"+idOf(1), "", nil)
	if a := l.do("GET", "/api/v1/machines/"+idOf(1)+"/explanation", "", nil); a.status != http.StatusNotFound {
		t.Errorf("a forgotten machine is explained: %d", a.status)
	}
}

// why is the file of a machine's explanation.
func (l *lab) why(n int) string { return filepath.Join(l.state, "history", idOf(n)+".why") }

// TestExplanationIsWritten: it is written without anybody asking for it, and
// with a machine that is forgotten it is gone.
func TestExplanationIsWritten(t *testing.T) {
	l := startLab(t, seedFiles())
	l.mustGet(vm(1))
	deadline := time.Now().Add(20 * time.Second)
	for {
		if _, err := os.Stat(l.why(1)); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
		runtime.Gosched()
	}
	l.mustGet(vm(1))
	l.do("DELETE", "/api/v1/machines/"+idOf(1), "", nil)
	l.stop()
	if _, err := os.Stat(l.why(1)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after it was forgotten: %v", err)
	}
}
