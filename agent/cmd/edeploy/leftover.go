package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"edeploy/agent/internal/installed"
	"edeploy/agent/internal/leftover"
)

// leftovers are the processes that still run what was replaced; nil when that
// cannot be told: of a system that is only mounted, by others than root, or
// because of an error, which is a warning.
func (p program) leftovers(ctx context.Context, machine installed.Machine) *leftover.Report {
	if p.proc == "" && (machine.Root != "/" || os.Geteuid() != 0) {
		return nil
	}
	// Also when ^C undid the upgrade: the look has a time limit of its own.
	report, err := leftover.Finder{Proc: p.proc, Root: machine.Root, Self: os.Getpid(), Manifest: machine.Manifest}.Find(context.WithoutCancel(ctx))
	if err != nil {
		fmt.Fprintf(p.stderr, "edeploy: who still runs what was replaced is not known: %v\n", err)
		return nil
	}
	return report
}

// shownProcesses are those outside of services that are named on the console.
const shownProcesses = 10

func writeLeftovers(w io.Writer, r *leftover.Report) {
	if r == nil {
		return
	}
	var b strings.Builder
	if !r.Empty() {
		b.WriteString("Still running what was replaced (restart these, or reboot):\n")
	}
	if len(r.Services) > 0 {
		fmt.Fprintf(&b, "  services:        systemctl restart %s\n", unitNames(r.Services, " "))
	}
	if r.Systemd {
		b.WriteString("  systemd:         systemctl daemon-reexec\n")
	}
	if len(r.Reboot) > 0 {
		fmt.Fprintf(&b, "  until a reboot:  %s\n", unitNames(r.Reboot, ", "))
	}
	if len(r.Processes) > 0 {
		fmt.Fprintf(&b, "  not of services: %s\n", processNames(r.Processes))
	}
	if r.Unknown > 0 {
		fmt.Fprintf(&b, "%d processes may not be looked at: whether they still run what was replaced is not known.\n", r.Unknown)
	}
	io.WriteString(w, b.String())
}

// unitNames are names as a shell takes them: systemd escapes with backslashes.
func unitNames(services []leftover.Service, separator string) string {
	var names []string
	for _, s := range services {
		name := s.Unit
		if strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@:._-") != "" {
			name = "'" + strings.ReplaceAll(name, "'", `'\''`) + "'"
		}
		names = append(names, name)
	}
	return strings.Join(names, separator)
}

// processNames are names with their numbers: "bash (12, 34), less (56)".
func processNames(all []leftover.Process) string {
	var names []string
	pids := map[string][]string{}
	for _, p := range all[:min(len(all), shownProcesses)] {
		if !slices.Contains(names, p.Name) {
			names = append(names, p.Name)
		}
		pids[p.Name] = append(pids[p.Name], fmt.Sprint(p.PID))
	}
	for i, name := range names {
		names[i] = fmt.Sprintf("%s (%s)", name, strings.Join(pids[name], ", "))
	}
	if more := len(all) - shownProcesses; more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
}
