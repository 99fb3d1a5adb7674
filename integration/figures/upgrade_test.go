package figures

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"

	"edeploy/images/manifest/archive"
	"edeploy/server/wire"
)

// The upgrade that is measured: of the roles that `make scenario` builds.
var (
	older = wire.ImageRef{Role: "mysql", Version: "D12-F.1.0.0"}
	newer = wire.ImageRef{Role: "mysql", Version: "D12-F.1.0.1"}
)

// TestFigureUpgrade upgrades a tree and lets rsync do the same: bytes that
// cross the wire in both directions, and the share of the time in which the
// tree is being changed.
func TestFigureUpgrade(t *testing.T) {
	if os.Getenv("EDEPLOY_BENCH") != "1" {
		t.Skip("measures: EDEPLOY_BENCH=1 runs it (make bench)")
	}
	dir := t.TempDir()
	daemon := start(t, dir, older, newer)
	rules := filepath.Join(dir, "images", "metadata", wire.UpgradePath(older, newer.Version))
	writeFiles(t, rules, map[string]string{"exclude": "/var/lib/edeploy/\n", "add_only": "- *\n"})
	web, rsync := count(t, daemon.HTTP), count(t, daemon.Rsync)

	machine := installed(t, filepath.Join(dir, "machine"), web.port, rsync.port)
	answer := run(t, "../../out/bin/edeploy", "--root", machine, "upgrade", "--no-reboot", "--json", newer.Version)
	ours := web.bytes.Load() + rsync.bytes.Load()
	var result struct {
		ChangingSeconds float64 `json:"changing_seconds"`
		TotalSeconds    float64 `json:"total_seconds"`
	}
	if err := json.Unmarshal(answer, &result); err != nil || result.TotalSeconds == 0 {
		t.Fatalf("answer of edeploy upgrade: %v\n%s", err, answer)
	}

	peer := installed(t, filepath.Join(dir, "peer"), web.port, rsync.port)
	module := serveRsync(t, dir, filepath.Join(dir, "images", "install", newer.Tree()))
	theirs := count(t, module)
	run(t, "rsync", "-aHX", "--numeric-ids", "--delete", "--exclude=/var/lib/edeploy/", fmt.Sprintf("rsync://127.0.0.1:%d/tree/", theirs.port), peer+"/")

	figure("upgrade-bytes-vs-rsync", float64(ours)/float64(theirs.bytes.Load()), "x", 1.2)
	figure("upgrade-changing-share", 100*result.ChangingSeconds/result.TotalSeconds, "%", 5)
	t.Logf("%d bytes, rsync %d; %.2f of %.1f s", ours, theirs.bytes.Load(), result.ChangingSeconds, result.TotalSeconds)
}

// figure prints a figure whose bar is an upper one.
func figure(name string, value float64, unit string, bar float64) {
	verdict := "ok"
	if value > bar {
		verdict = "short"
	}
	fmt.Printf("figure %s %.3f %s <=%v %s\n", name, value, unit, bar, verdict)
}

func run(t *testing.T, program string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s%s", program, args, err, out, &stderr)
	}
	return out
}

func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// installed unpacks the older version and what the agent leaves on it.
func installed(t *testing.T, root string, http, rsync int) string {
	t.Helper()
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	packed := filepath.Join("../../out/install", older.Archive())
	f, err := os.Open(packed)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	stream, err := archive.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if _, err := archive.Extract(t.Context(), stream, root, archive.Options{Workers: 2}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join("../../out/install", older.Manifest()))
	if err != nil {
		t.Fatal(err)
	}
	conf := wire.Installed{Image: older, Serv: "127.0.0.1", HTTPPort: http, RServ: "127.0.0.1", RServPort: rsync, RPath: "install"}
	writeFiles(t, root, map[string]string{wire.ConfPath: conf.Encode(), wire.ManifestPath: string(text)})
	return root
}

// counted is a door to a TCP server that counts what goes through.
type counted struct {
	port  int
	bytes atomic.Int64
}

func count(t *testing.T, server string) *counted {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	c := &counted{port: l.Addr().(*net.TCPAddr).Port}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go c.relay(client, server)
		}
	}()
	return c
}

func (c *counted) relay(client net.Conn, server string) {
	defer client.Close()
	upstream, err := net.Dial("tcp4", server)
	if err != nil {
		return
	}
	defer upstream.Close()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		io.Copy(io.MultiWriter(upstream, c), client)
		upstream.(*net.TCPConn).CloseWrite()
	}()
	io.Copy(io.MultiWriter(client, c), upstream)
	client.(*net.TCPConn).CloseWrite()
	<-sent
}

// Write counts.
func (c *counted) Write(p []byte) (int, error) {
	c.bytes.Add(int64(len(p)))
	return len(p), nil
}

// serveRsync runs Debian's rsync daemon on a tree and answers its address.
func serveRsync(t *testing.T, dir, tree string) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	conf := filepath.Join(dir, "rsyncd.conf")
	writeFiles(t, dir, map[string]string{"rsyncd.conf": "uid = root\ngid = root\nuse chroot = no\n[tree]\npath = " + tree + "\n"})
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd := exec.CommandContext(ctx, "rsync", "--daemon", "--no-detach", "--config", conf, "--address", "127.0.0.1", "--port", strconv.Itoa(port))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		cmd.Wait()
	})
	address := fmt.Sprintf("127.0.0.1:%d", port)
	for range 100 {
		if c, err := net.Dial("tcp4", address); err == nil {
			c.Close()
			return address
		}
		exec.Command("sleep", "0.05").Run()
	}
	t.Fatal("rsync's daemon does not answer")
	return ""
}
