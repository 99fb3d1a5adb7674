// Package labtest wraps a lab for tests: it skips what needs virtual machines
// unless they are asked for, and a test that fails ends with the lab's report.
//
// EDEPLOY_VM=1 runs tests with virtual machines; a missing tool is a failure
// then, not a skip.
package labtest

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"edeploy/integration/lab"
)

// NeedVM skips a test unless EDEPLOY_VM=1.
func NeedVM(t testing.TB) {
	t.Helper()
	if os.Getenv("EDEPLOY_VM") != "1" {
		t.Skip("starts virtual machines: EDEPLOY_VM=1 runs it")
	}
}

// New makes a lab in the test's artifact directory (go test -artifacts keeps
// it). It closes with the test; if that has failed, with a report.
func New(t testing.TB) *lab.Lab {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	l, err := lab.New(t.ArtifactDir(), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			l.Report(t.Output())
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// Start switches a machine on that runs until the lab closes: a failed test
// still finds it running when it reports.
func Start(t testing.TB, l *lab.Lab, m lab.Machine) *lab.VM {
	t.Helper()
	vm, err := l.Start(context.WithoutCancel(t.Context()), m)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

// Expect waits for a line of a machine's console, lab.Patience(d) at most, and
// returns the match and its groups.
func Expect(t testing.TB, vm *lab.VM, d time.Duration, pattern string) []string {
	t.Helper()
	ctx, cancel := lab.Deadline(t.Context(), d)
	defer cancel()
	match, err := vm.Expect(ctx, pattern)
	if err != nil {
		t.Fatal(err)
	}
	return match
}
