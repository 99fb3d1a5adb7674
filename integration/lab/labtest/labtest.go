// Package labtest wraps a lab for tests: it skips what needs virtual machines
// unless they are asked for, and a test that fails ends with the lab's report.
//
// EDEPLOY_VM=1 runs tests with virtual machines; a missing tool is a failure
// then, not a skip.
package labtest

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
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

// Dir makes out/failed/PACKAGE-TEST, which is emptied before the test and gone
// after it. Of a test that has failed, logs, captures and UEFI variables stay
// there; disks do not.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := failedDir(t.Name())
	if err == nil {
		err = os.RemoveAll(dir)
	}
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sweep(dir, t.Failed()); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// failedDir is the directory of a test of the package in the working directory.
func failedDir(test string) (string, error) {
	pkg, err := os.Getwd()
	if err != nil {
		return "", err
	}
	top := pkg
	for {
		if _, err := os.Stat(filepath.Join(top, "go.mod")); err == nil {
			break
		}
		if top == filepath.Dir(top) {
			return "", fmt.Errorf("%s is in no Go module", pkg)
		}
		top = filepath.Dir(top)
	}
	name := filepath.Base(pkg) + "-" + strings.ReplaceAll(test, "/", "-")
	return filepath.Join(top, "out", "failed", name), nil
}

// sweep removes a test's directory; of one that has failed, all but what a
// reader needs.
func sweep(dir string, failed bool) error {
	if !failed {
		return os.RemoveAll(dir)
	}
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		switch filepath.Ext(path) {
		case ".log", ".pcap", ".fd":
			return nil
		}
		return os.Remove(path)
	})
}

// New makes a lab in the test's directory (see Dir). It closes with the test;
// if that has failed, with a report.
func New(t testing.TB) *lab.Lab {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	l, err := lab.New(Dir(t), log)
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
