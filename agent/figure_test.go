package agent_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"edeploy/agent/internal/command"
	"edeploy/agent/internal/transfer"
	"edeploy/images/manifest"
	"edeploy/server/wire"
)

// TestFigureTransfer compares what the agent does (rsync from the appliance's
// daemon, manifest applied, everything verified) with `rsync -aHX` from an
// rsync daemon: the same tree, the same disks, in turn. It uses what
// `make build role` leaves below out/.
func TestFigureTransfer(t *testing.T) {
	if os.Getenv("EDEPLOY_BENCH") != "1" {
		t.Skip("measures: EDEPLOY_BENCH=1 runs it (make bench)")
	}
	const bar = 0.4
	dir := t.TempDir()
	image := wire.ImageRef{Role: "base", Version: "D12-F.1.0.0"}
	args := serveImage(t, dir, image)
	peer := serveRsync(t, filepath.Join(dir, "images", "install"))
	var ours, theirs []time.Duration
	for i := range 3 {
		to := filepath.Join(dir, fmt.Sprintf("ours%d", i))
		ours = append(ours, timed(t, func() error { return install(t.Context(), args, image, to) }))
		to = filepath.Join(dir, fmt.Sprintf("theirs%d", i))
		theirs = append(theirs, timed(t, func() error {
			out, err := exec.CommandContext(t.Context(), "rsync", "-aHX", peer+image.Tree()+"/", to).CombinedOutput()
			if err != nil {
				return fmt.Errorf("rsync -aHX: %w\n%s", err, out)
			}
			return nil
		}))
	}
	t.Logf("agent path %v, rsync -aHX %v", ours, theirs)
	ratio := fastest(theirs).Seconds() / fastest(ours).Seconds()
	verdict := "ok"
	if ratio < bar {
		verdict = "short"
	}
	fmt.Printf("figure tree-transfer-vs-rsync %.2f x >=%.1f %s\n", ratio, bar, verdict)
}

// install does what the steps transfer and verify do.
func install(ctx context.Context, args wire.BootArgs, image wire.ImageRef, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	mover := transfer.Transfer{Run: command.On(nil)}
	file := to + ".mtree"
	if err := mover.File(ctx, args.RsyncURL(image.Manifest()), file, 256<<20); err != nil {
		return err
	}
	text, err := os.Open(file)
	if err != nil {
		return err
	}
	defer text.Close()
	m, err := manifest.Read(text)
	if err != nil {
		return err
	}
	if err := mover.Tree(ctx, args.RsyncURL(image.Tree()), to); err != nil {
		return err
	}
	if err := m.Apply(ctx, to, manifest.Options{}); err != nil {
		return err
	}
	wrong, err := m.Verify(ctx, to, manifest.Options{})
	if err == nil && len(wrong) > 0 {
		err = fmt.Errorf("%d differences, the first: %s", len(wrong), wrong[0])
	}
	return err
}

func timed(t *testing.T, run func() error) time.Duration {
	t.Helper()
	// What the one wrote must not be paid for by the other.
	if err := exec.Command("sync").Run(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := run(); err != nil {
		t.Fatal(err)
	}
	return time.Since(start)
}

func fastest(all []time.Duration) time.Duration {
	best := all[0]
	for _, d := range all[1:] {
		best = min(best, d)
	}
	return best
}

// serveImage runs edeployd on loopback with the image in it.
func serveImage(t *testing.T, dir string, image wire.ImageRef) wire.BootArgs {
	t.Helper()
	conf := filepath.Join(dir, "edeploy.conf")
	text := "[SERVER]\nCONFIGDIR=config\n[NETWORK]\nADDRESS=127.0.0.1/8\n[DHCP]\nENABLED=no\n" +
		"[HTTP]\nPORT=28082\n[RSYNC]\nPORT=28732\n[IMAGES]\nTOP=images\n[STATE]\nDIR=server\n"
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	start(t, exec.Command("../out/bin/edeployd", "-config", conf))
	await(t, "edeployd", func() error {
		res, err := http.Get("http://127.0.0.1:28082/api/v1/version")
		if err == nil {
			res.Body.Close()
		}
		return err
	})
	push := exec.Command("../out/bin/edeployctl", "--server", "http://127.0.0.1:28082", "push",
		filepath.Join("../out/install", image.Archive()))
	if out, err := push.CombinedOutput(); err != nil {
		t.Fatalf("push: %v\n%s", err, out)
	}
	args := wire.DefaultBootArgs()
	args.Serv, args.RServPort = "127.0.0.1", 28732
	return args
}

// serveRsync runs Debian's rsync daemon on a directory.
func serveRsync(t *testing.T, dir string) string {
	t.Helper()
	conf := filepath.Join(t.TempDir(), "rsyncd.conf")
	text := "port = 28733\naddress = 127.0.0.1\nuse chroot = no\nuid = root\ngid = root\n[tree]\npath = " + dir + "\n"
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	start(t, exec.Command("rsync", "--daemon", "--no-detach", "--config", conf))
	const url = "rsync://127.0.0.1:28733/tree/"
	await(t, "rsync --daemon", func() error { return exec.Command("rsync", url).Run() })
	return url
}

func start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}

func await(t *testing.T, what string, try func() error) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for try() != nil {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not answer within 20 s: %v", what, try())
		}
		time.Sleep(50 * time.Millisecond)
	}
}
