package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"edeploy/agent/internal/installed"
	"edeploy/agent/internal/leftover"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const stillRunning = "Still running what was replaced (restart these, or reboot):\n"

// isLeftover tells whether a process is in a report; what its unit is depends
// on where the tests run.
func isLeftover(r *leftover.Report, pid int) bool {
	return r != nil && (slices.ContainsFunc(slices.Concat(r.Services, r.Reboot), func(s leftover.Service) bool { return slices.Contains(s.PIDs, pid) }) ||
		slices.ContainsFunc(r.Processes, func(p leftover.Process) bool { return p.PID == pid }))
}

func sleepProgram(t *testing.T) string {
	t.Helper()
	sleep, err := exec.LookPath("sleep")
	must(t, err)
	return sleep
}

// TestLeftovers: a program runs while it is upgraded, and rolled back.
func TestLeftovers(t *testing.T) {
	s := newSite(t)
	s.proc = "/proc"
	su := filepath.Join(s.root, "usr/bin/su")
	copyFile(t, sleepProgram(t), su)
	c := exec.CommandContext(t.Context(), su, "1000")
	must(t, c.Start())
	t.Cleanup(func() { c.Wait() })

	found := func(want bool, args ...string) {
		t.Helper()
		status, out, errs := s.call(t, args...)
		var got struct{ Leftovers *leftover.Report }
		if strings.Contains(strings.Join(args, " "), "--json") {
			decode(t, out, &got)
			if isLeftover(got.Leftovers, c.Process.Pid) != want {
				t.Errorf("%q: leftovers = %+v, want process %d in it: %t", args, got.Leftovers, c.Process.Pid, want)
			}
			out = errs
		}
		if status != 0 || args[0] != "status" && strings.Contains(out, stillRunning) != want {
			t.Errorf("%q = %d %q %q", args, status, out, errs)
		}
	}
	found(false, "status", "--json")
	found(true, "upgrade", after, "--json")
	found(true, "status", "--json")
	if _, out, _ := s.call(t, "status"); !strings.Contains(out, "edeploy rollback leads to "+before) || !strings.Contains(out, stillRunning) {
		t.Errorf("status printed\n%s", out)
	}
	log := text(t, s.root, "var/log/edeploy/upgrade-"+before+"-"+after+".log")
	if !strings.Contains(log, stillRunning) {
		t.Errorf("the log is\n%s", log)
	}
	found(false, "rollback")
	found(false, "status", "--json")
}

// TestLeftoversOfUndone: post started a program of the new version and failed.
func TestLeftoversOfUndone(t *testing.T) {
	s := newSite(t)
	s.proc = "/proc"
	copyFile(t, sleepProgram(t), filepath.Join(s.tree, "usr/bin/su"))
	write(t, "", s.tree, "dev/null") // the shell wants one
	s.publish(t)
	s.script(t, "post", "/usr/bin/su 60 >&- 2>&- & echo $! >/tmp/pid; exit 7\n")
	status, out, errs := s.call(t, "upgrade", after)
	pid, err := strconv.Atoi(strings.TrimSpace(text(t, s.root, "tmp/pid")))
	must(t, err)
	t.Cleanup(func() { unix.Kill(pid, unix.SIGKILL) })
	if status != 1 || strings.Count(errs, "\n") != 1 || !strings.Contains(out, stillRunning) {
		t.Errorf("upgrade = %d, stdout %q, stderr %q", status, out, errs)
	}
	_, out, _ = s.call(t, "status", "--json")
	var got struct{ Leftovers *leftover.Report }
	decode(t, out, &got)
	if !isLeftover(got.Leftovers, pid) {
		t.Errorf("leftovers = %+v, want process %d in it", got.Leftovers, pid)
	}
}

// TestLeftoversUnknown: nothing is said, in JSON neither, of a system that is
// not the running one; an error is a warning; ^C is none.
func TestLeftoversUnknown(t *testing.T) {
	root := machine(t)
	if status, out, errs := call(t, "status", "--json", "--root", root); status != 0 || errs != "" || strings.Contains(out, "leftovers") {
		t.Errorf("status of a mounted system = %d %q %q", status, out, errs)
	}
	var out, errs strings.Builder
	p := program{args: []string{"status", "--root", root}, stdout: &out, stderr: &errs, proc: t.TempDir()}
	status := p.run(t.Context())
	if status != 0 || out.String() != "This machine is mysql D12-F.1.0.0.\n" || !strings.HasPrefix(errs.String(), "edeploy: who still runs what was replaced is not known: open ") || strings.Count(errs.String(), "\n") != 1 {
		t.Errorf("status without /proc = %d %q %q", status, out.String(), errs.String())
	}
	interrupted, cancel := context.WithCancel(t.Context())
	cancel()
	p.proc = "/proc"
	if r := p.leftovers(interrupted, installed.Machine{Root: root}); r == nil {
		t.Errorf("after ^C nobody looked: %s", errs.String())
	}
	if p.proc = ""; os.Geteuid() == 0 {
		return
	}
	if r := p.leftovers(t.Context(), installed.Machine{Root: "/"}); r != nil {
		t.Errorf("leftovers without being root = %+v", r)
	}
}

func TestWriteLeftovers(t *testing.T) {
	var many []leftover.Process
	for i := range shownProcesses + 2 {
		many = append(many, leftover.Process{PID: i, Name: fmt.Sprint("p", i%2)})
	}
	for name, test := range map[string]struct {
		report *leftover.Report
		want   string
	}{
		"not looked": {nil, ""},
		"none":       {&leftover.Report{}, ""},
		"all": {&leftover.Report{
			Services:  []leftover.Service{{Unit: "mariadb.service", PIDs: []int{5}}, {Unit: `x@a\x2db.service`, PIDs: []int{6}}},
			Reboot:    []leftover.Service{{Unit: "dbus.service"}, {Unit: "systemd-logind.service"}},
			Systemd:   true,
			Processes: []leftover.Process{{PID: 12, Name: "bash"}, {PID: 34, Name: "less"}, {PID: 56, Name: "bash"}},
			Unknown:   2,
		}, stillRunning + `  services:        systemctl restart mariadb.service 'x@a\x2db.service'
  systemd:         systemctl daemon-reexec
  until a reboot:  dbus.service, systemd-logind.service
  not of services: bash (12, 56), less (34)
2 processes may not be looked at: whether they still run what was replaced is not known.
`},
		"many": {&leftover.Report{Processes: many}, stillRunning + "  not of services: p0 (0, 2, 4, 6, 8), p1 (1, 3, 5, 7, 9), 2 more\n"},
	} {
		var got strings.Builder
		writeLeftovers(&got, test.report)
		if diff := cmp.Diff(test.want, got.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
