// Package figures measures what only the whole daemon can show.
package figures

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"edeploy/integration/rack"
	"edeploy/integration/rack/racktest"
	"edeploy/server/wire"
)

// TestFigureMemory is edeployd's resident memory while 20 machines fetch a
// tree at once.
func TestFigureMemory(t *testing.T) {
	if os.Getenv("EDEPLOY_BENCH") != "1" {
		t.Skip("measures: EDEPLOY_BENCH=1 runs it (make bench)")
	}
	const transfers, bar = 20, 256
	dir := t.TempDir()
	daemon := start(t, dir, racktest.Base)
	done := make(chan error, 1)
	go func() { done <- fetchAll(t.Context(), daemon.Rsync, transfers, dir) }()
	var most int
	for {
		most = max(most, resident(t, daemon.PID))
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			verdict := "ok"
			if most >= bar {
				verdict = "short"
			}
			fmt.Printf("figure edeployd-memory-20-transfers %d MB <%d %s\n", most, bar, verdict)
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func fetchAll(ctx context.Context, server string, n int, dir string) error {
	group, ctx := errgroup.WithContext(ctx)
	for i := range n {
		group.Go(func() error {
			to := filepath.Join(dir, fmt.Sprintf("to%d", i))
			cmd := exec.CommandContext(ctx, "rsync", "-a", "rsync://"+server+"/install/"+racktest.Base.Tree()+"/usr/lib/modules", to)
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("rsync: %w\n%s", err, out)
			}
			return nil
		})
	}
	return group.Wait()
}

// start runs edeployd with images on loopback until the test ends.
func start(t *testing.T, dir string, images ...wire.ImageRef) *rack.Daemon {
	t.Helper()
	out, err := filepath.Abs("../../out")
	if err != nil {
		t.Fatal(err)
	}
	d, err := rack.StartDaemon(context.WithoutCancel(t.Context()), out, dir, filepath.Join(dir, "images"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Stop(); err != nil {
			t.Error(err)
		}
	})
	for _, ref := range images {
		if _, err := d.Ctl(t.Context(), "push", filepath.Join(out, "install", ref.Archive())); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

var rss = regexp.MustCompile(`VmRSS:\s+(\d+) kB`)

// resident is the resident memory of a process in MB.
func resident(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	found := rss.FindSubmatch(status)
	if found == nil {
		t.Fatalf("no VmRSS for process %d", pid)
	}
	kb, err := strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kb / 1000
}
