package server_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edeploy/server"
	"edeploy/server/wire"
)

// startTwo starts a server with the deployments SERVER and LAB.
func startTwo(t *testing.T) *lab {
	t.Helper()
	l := newLab(t, seedFiles())
	l.write("state", "[('vm', 3)]\n")
	other := t.TempDir()
	for name, text := range seedFiles() {
		if err := os.WriteFile(filepath.Join(other, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	settings := l.settings()
	settings.Deployments["LAB"] = server.Deployment{ConfigDir: other}
	l.startWith(settings)
	return l
}

func (l *lab) section(id, section string, want int) {
	l.t.Helper()
	a := l.do("PUT", "/api/v1/machines/"+id+"/section", "application/json", strings.NewReader(`{"section": "`+section+`"}`))
	if a.status != want {
		l.t.Fatalf("section %s: status %d, want %d: %s", section, a.status, want, a.body)
	}
}

// TestSections: a machine gets the deployment that the operator has set,
// whatever it asks for; with another one it gives back what it holds.
func TestSections(t *testing.T) {
	l := startTwo(t)
	ask := func(section string) answer { return l.post("section", section, "file/hw.json", encode(vm(1))) }
	const stranger = "a machine that is not known yet belongs to deployment SERVER and may not choose LAB: the operator can set it"
	if a := ask("LAB"); a.status != http.StatusForbidden || strings.TrimSpace(wire.ParseRefusal(a.body)) != stranger {
		t.Errorf("a machine has chosen its deployment: %d %s", a.status, wire.ParseRefusal(a.body))
	}
	if n := len(l.machines()); n != 0 {
		t.Errorf("%d machines are known", n)
	}
	l.mustGet(vm(1))
	l.stateIs("[('vm', 2)]\n")
	if a := ask("LAB"); a.status != http.StatusForbidden {
		t.Errorf("a known machine has chosen its deployment: %d", a.status)
	}
	l.stateIs("[('vm', 2)]\n")
	l.section(idOf(1), "LAB", http.StatusOK)
	if got := l.server.BootSection(mac(1), ""); got != "LAB" {
		t.Errorf("it boots with section %s", got)
	}
	for _, named := range []string{"LAB", "SERVER"} { // what a boot names that does not know better
		if a := ask(named); a.status != http.StatusOK {
			t.Fatalf("status %d: %s", a.status, a.body)
		}
		if m := l.machine(idOf(1)); m.Allocation.Section != "LAB" || m.BootSection != "LAB" {
			t.Errorf("it holds %+v", m.Allocation)
		}
	}
	l.stateIs("[('vm', 3)]\n")
	l.section(idOf(1), "", http.StatusOK)
	l.mustGet(vm(1))
	l.stateIs("[('vm', 2)]\n")
}

// TestSectionBefore: the deployment is set before the machine is ever seen.
func TestSectionBefore(t *testing.T) {
	l := startTwo(t)
	l.section("nobody", "LAB", http.StatusNotFound)
	l.section(mac(1), "NONE", http.StatusBadRequest)
	l.section(mac(1), "LAB", http.StatusOK)
	l.mustGet(vm(1))
	l.mustGet(vm(2))
	for n, want := range map[int]string{1: "LAB", 2: "SERVER"} {
		if m := l.machine(idOf(n)); m.Allocation.Section != want {
			t.Errorf("machine %d holds something of %s, want %s", n, m.Allocation.Section, want)
		}
	}
}

// TestSectionOfBoots: a default deployment must exist; a failure report is
// about what the machine holds.
func TestSectionOfBoots(t *testing.T) {
	l := newLab(t, seedFiles())
	settings := l.settings()
	settings.BootSection = "NONE"
	if s, err := l.open(settings); err == nil {
		s.Close()
		t.Error("a boot section that does not exist is accepted")
	}
	l = startTwo(t)
	l.mustGet(vm(1))
	if a := l.post("section", "LAB", "failure", "vm", "file/hw.json", encode(vm(1))); a.status != http.StatusOK {
		t.Errorf("failure report: %d %s", a.status, a.body)
	}
	l.stateIs("[('vm', 3)]\n")
}

// TestFailureWithoutSection: where no deployment is called SERVER, a failure
// report that names none is about the deployment that the machine belongs to.
func TestFailureWithoutSection(t *testing.T) {
	l := newLab(t, countedFiles(2))
	settings := l.settings()
	settings.Deployments = map[string]server.Deployment{"LAB": settings.Deployments["SERVER"], "OTHER": {ConfigDir: t.TempDir()}}
	settings.BootSection, l.named = "LAB", "LAB"
	l.startWith(settings)
	if a := l.post("file/hw.json", encode(vm(1))); a.status != http.StatusOK {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
	for range 2 {
		if a := l.post("failure", "vm", "file/hw.json", encode(vm(1))); a.status != http.StatusOK {
			t.Fatalf("failure: status %d: %s", a.status, a.body)
		}
		l.stateIs("[('vm', 2)]\n")
	}
}
