package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

// hear answers what the server of a site is told from then on, "step status
// version message".
func (s *site) hear(t *testing.T) (heard *[]string) {
	heard = &[]string{}
	s.identity = &wire.Identity{MACs: []string{"52:54:00:00:00:01"}, Serial: "S1"}
	s.handler = func(w http.ResponseWriter, r *http.Request, files http.HandlerFunc) {
		if r.Method != http.MethodPost || r.URL.Path != wire.ReportPath {
			files(w, r)
			return
		}
		rep, err := wire.DecodeReport(r.Body)
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(*s.identity, rep.Machine); diff != "" {
			t.Errorf("the machine in a report (-want +got):\n%s", diff)
		}
		message, _, _ := strings.Cut(steady(rep.Message), ":")
		*heard = append(*heard, strings.TrimSpace(string(rep.Step)+" "+string(rep.Status)+" "+rep.Image.Version+" "+message))
	}
	return heard
}

func TestServerIsTold(t *testing.T) {
	s := newSite(t)
	heard := s.hear(t)
	s.script(t, "post", "exit 3")
	if status, _, stderr := s.call(t, "upgrade", after); status != exitFailed {
		t.Fatalf("exit status %d: %s", status, stderr)
	}
	must(t, os.Remove(filepath.Join(s.upgrade, "post")))
	for _, args := range [][]string{{"test-upgrade", after}, {"upgrade", after}, {"rollback"}, {"status"}} {
		if status, _, stderr := s.call(t, args...); status != 0 {
			t.Fatalf("%v: exit status %d: %s", args, status, stderr)
		}
	}
	want := []string{
		"upgrade started " + after + " mysql " + before + " to " + after,
		"upgrade failed " + after + " post",
		"upgrade started " + after + " mysql " + before + " to " + after,
		"upgrade done " + after + " Upgraded to mysql " + after + " in N s",
		"rollback started " + before + " mysql " + after + " to " + before,
		"rollback done " + before,
	}
	if diff := cmp.Diff(want, *heard); diff != "" {
		t.Errorf("the server was told (-want +got):\n%s", diff)
	}
}

// A server that takes no reports, as the original's, is worth a warning only.
func TestServerTakesNoReports(t *testing.T) {
	s := newSite(t)
	s.identity = &wire.Identity{MACs: []string{"52:54:00:00:00:01"}}
	status, _, stderr := s.call(t, "upgrade", after)
	if status != 0 || strings.Count(stderr, "the server is not told: ") != 1 {
		t.Errorf("exit status %d, said:\n%s", status, stderr)
	}
	if _, version, _ := s.call(t, "version"); version != after+"\n" {
		t.Errorf("version %q", version)
	}
	if _, err := os.Lstat(filepath.Join(s.root, "/var/lib/edeploy/unheard")); !os.IsNotExist(err) {
		t.Errorf("the report is kept: %v", err)
	}
}

// What the server does not hear when it happens, it hears later; once.
func TestServerIsToldLater(t *testing.T) {
	s := newSite(t)
	heard := s.hear(t)
	listening := s.handler
	s.handler = func(w http.ResponseWriter, r *http.Request, files http.HandlerFunc) {
		if r.URL.Path == wire.ReportPath {
			http.Error(w, "on its way down", http.StatusServiceUnavailable)
			return
		}
		files(w, r)
	}
	tell := func(wantStatus int, wantOut string) {
		t.Helper()
		status, out, stderr := s.call(t, "report")
		if status != wantStatus || steady(out) != wantOut {
			t.Errorf("edeploy report: exit status %d, said %q, %s", status, out, stderr)
		}
	}
	tell(0, "")
	if status, _, stderr := s.call(t, "upgrade", after); status != 0 {
		t.Fatalf("exit status %d: %s", status, stderr)
	}
	tell(exitFailed, "")
	s.handler = listening
	status, out, _ := s.call(t, "report")
	if status != 0 || !strings.Contains(out, "upgrade done, Upgraded to mysql "+after) {
		t.Errorf("edeploy report: exit status %d, said %q", status, out)
	}
	tell(0, "")
	want := []string{"upgrade done " + after + " Upgraded to mysql " + after + " in N s"}
	if diff := cmp.Diff(want, *heard); diff != "" {
		t.Errorf("the server was told (-want +got):\n%s", diff)
	}
}

// A power cut leaves the report that the upgrade began.
func TestServerIsToldOfPowerCut(t *testing.T) {
	s := newSite(t)
	heard := s.hear(t)
	for _, to := range []string{after, before} {
		var text strings.Builder
		must(t, wire.EncodeReport(&text, wire.Report{Machine: *s.identity, Step: wire.StepUpgrade, Status: wire.StatusStarted,
			Image: wire.ImageRef{Role: "mysql", Version: to}}))
		write(t, text.String(), s.root, "/var/lib/edeploy/unheard")
		if status, _, stderr := s.call(t, "recover"); status != 0 {
			t.Errorf("edeploy recover: exit status %d: %s", status, stderr)
		}
	}
	want := []string{
		"upgrade failed " + after + " interrupted; this machine is mysql " + before + " as before",
		"upgrade done " + before + " complete when it was interrupted",
	}
	if diff := cmp.Diff(want, *heard); diff != "" {
		t.Errorf("the server was told (-want +got):\n%s", diff)
	}
}

// A report that comes while an upgrade runs leaves the upgrade its say.
func TestReportWhileUpgrading(t *testing.T) {
	s := newSite(t)
	heard := s.hear(t)
	listening := s.handler
	s.handler = func(w http.ResponseWriter, r *http.Request, files http.HandlerFunc) {
		if r.URL.Path == wire.ReportPath {
			if status, out, stderr := s.call(t, "report"); status != 0 || out != "" {
				t.Errorf("edeploy report: exit status %d, said %q, %s", status, out, stderr)
			}
		}
		listening(w, r, files)
	}
	if status, _, stderr := s.call(t, "upgrade", after); status != 0 {
		t.Fatalf("exit status %d: %s", status, stderr)
	}
	if len(*heard) != 2 {
		t.Errorf("the server was told %q", *heard)
	}
}

// A report that cannot be kept, as on a full disk, is sent all the same.
func TestServerIsToldWithoutKeeping(t *testing.T) {
	s := newSite(t)
	heard := s.hear(t)
	must(t, os.MkdirAll(filepath.Join(s.root, "/var/lib/edeploy/unheard", "in the way"), 0o755))
	if status, _, stderr := s.call(t, "upgrade", after); status != 0 || !strings.Contains(stderr, "the server is not told: ") {
		t.Errorf("exit status %d, said:\n%s", status, stderr)
	}
	if len(*heard) != 2 {
		t.Errorf("the server was told %q", *heard)
	}
}
