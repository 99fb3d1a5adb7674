// Package figures measures what only the whole daemon can show.
package figures

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"edeploy/integration/rack/racktest"
)

// TestFigureMemory is edeployd's resident memory while 20 machines fetch a
// tree at once.
func TestFigureMemory(t *testing.T) {
	if os.Getenv("EDEPLOY_BENCH") != "1" {
		t.Skip("measures: EDEPLOY_BENCH=1 runs it (make bench)")
	}
	const transfers, bar = 20, 256
	dir := t.TempDir()
	daemon := start(t, dir)
	out, err := filepath.Abs("../../out")
	if err != nil {
		t.Fatal(err)
	}
	push := exec.Command(filepath.Join(out, "bin", "edeployctl"), "--server", "http://127.0.0.1:28081", "push",
		filepath.Join(out, "install", racktest.Base.Archive()))
	if text, err := push.CombinedOutput(); err != nil {
		t.Fatalf("push: %v\n%s", err, text)
	}
	done := make(chan error, 1)
	go func() { done <- fetchAll(t.Context(), transfers, dir) }()
	var most int
	for {
		most = max(most, resident(t, daemon))
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

func fetchAll(ctx context.Context, n int, dir string) error {
	group, ctx := errgroup.WithContext(ctx)
	for i := range n {
		group.Go(func() error {
			to := filepath.Join(dir, fmt.Sprintf("to%d", i))
			cmd := exec.CommandContext(ctx, "rsync", "-a", "rsync://127.0.0.1:28731/install/"+racktest.Base.Tree()+"/usr/lib/modules", to)
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("rsync: %w\n%s", err, out)
			}
			return nil
		})
	}
	return group.Wait()
}

// start runs edeployd on loopback and waits until it answers; it answers the
// process id.
func start(t *testing.T, dir string) int {
	t.Helper()
	conf := filepath.Join(dir, "edeploy.conf")
	text := "[SERVER]\nCONFIGDIR=config\n[NETWORK]\nADDRESS=127.0.0.1/8\n[DHCP]\nENABLED=no\n" +
		"[HTTP]\nPORT=28081\n[RSYNC]\nPORT=28731\n[IMAGES]\nTOP=images\n[STATE]\nDIR=server\n"
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "config"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config", "state"), []byte("[]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("../../out/bin/edeployd", "-config", conf)
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		res, err := http.Get("http://127.0.0.1:28081/api/v1/version")
		if err == nil {
			res.Body.Close()
			return cmd.Process.Pid
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("edeployd does not answer within 20 s")
	return 0
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
