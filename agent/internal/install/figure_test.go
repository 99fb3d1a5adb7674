package install_test

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"edeploy/agent/internal/install"
	"edeploy/server/wire"
)

var figureImage = wire.ImageRef{Role: "base", Version: "D12-F.1.0.0"}

// TestFigures compares what the agent does in its steps transfer and verify,
// by rsync and by HTTP from edeployd, with `rsync -aHX` from an rsync daemon: the
// same tree, the same disk, in turn. It uses what `make build role` leaves below
// out/; EDEPLOY_IMAGES names another directory of archives.
//
// Over loopback bytes cost nothing, and what is compared is processor time:
// unpacking and MD4 sums (rsync's protocol 27) against copying. Over the wire of
// a rack, which the figures with "gigabit" in their names have, the archive is
// two fifths of the bytes.
func TestFigures(t *testing.T) {
	if os.Getenv("EDEPLOY_BENCH") != "1" {
		t.Skip("measures: EDEPLOY_BENCH=1 runs it (make bench)")
	}
	dir := t.TempDir()
	args := serveImage(t, dir, figureImage)
	httpPort, peerPort := 28082, serveRsync(t, filepath.Join(dir, "images", "install"))
	compare(t, rsyncPeer(t, peerPort),
		way{"tree-transfer-vs-rsync", 0.4, byRsync(t, args, args.RServPort)},
		way{"http-install-vs-rsync", 1.5, byHTTP(t, args, httpPort)})
	compare(t, rsyncPeer(t, gigabit(t, peerPort)),
		way{"tree-transfer-vs-rsync-gigabit", 0.4, byRsync(t, args, gigabit(t, args.RServPort))},
		way{"http-install-vs-rsync-gigabit", 1.5, byHTTP(t, args, gigabit(t, httpPort))})
}

func byRsync(t *testing.T, args wire.BootArgs, port int) func(to string) error {
	args.RServPort = port
	return func(to string) error { return install.Bring(t.Context(), args, figureImage, to) }
}

func byHTTP(t *testing.T, args wire.BootArgs, port int) func(to string) error {
	args.HServ, args.HServPort = "127.0.0.1", port
	return func(to string) error { return install.Bring(t.Context(), args, figureImage, to) }
}

func rsyncPeer(t *testing.T, port int) way {
	source := fmt.Sprintf("rsync://127.0.0.1:%d/tree/%s/", port, figureImage.Tree())
	return way{"rsync -aHX", 0, func(to string) error {
		out, err := exec.CommandContext(t.Context(), "rsync", "-aHX", source, to).CombinedOutput()
		if err != nil {
			return fmt.Errorf("rsync -aHX: %w\n%s", err, out)
		}
		return nil
	}}
}

// compare prints how much faster than the peer the ways are, by the median of
// several times each, taken in turn. The best one would be chance: memory that
// the page cache gets for the first time costs a virtual machine as much as the
// copying.
//
// Every copy goes to a disk of its own, as a machine's: ext4 does not use a
// removed file's inode again for a minute, six while that is not on the disk
// (recently_deleted in fs/ext4/ialloc.c), and every new file looks through all of
// those, which took longer than the copying.
func compare(t *testing.T, peer way, ways ...way) {
	t.Helper()
	const rounds = 7
	took := map[string][]time.Duration{}
	for range rounds {
		for _, w := range append(ways, peer) {
			onNewDisk(t, func(to string) {
				took[w.name] = append(took[w.name], timed(t, func() error { return w.copy(to) }))
			})
		}
	}
	t.Logf("%s: %v", peer.name, took[peer.name])
	for _, w := range ways {
		t.Logf("%s: %v", w.name, took[w.name])
		w.tell(median(took[peer.name]).Seconds() / median(took[w.name]).Seconds())
	}
}

// onNewDisk gives a directory of a new ext4.
func onNewDisk(t *testing.T, use func(to string)) {
	t.Helper()
	disk, at := filepath.Join(t.TempDir(), "disk"), t.TempDir()
	run(t, "truncate", "--size=4G", disk)
	run(t, "mkfs.ext4", "-q", "-F", disk)
	run(t, "mount", "-o", "loop", disk, at)
	defer func() { run(t, "umount", at); run(t, "rm", disk) }()
	use(filepath.Join(at, "target"))
}

func run(t *testing.T, command ...string) {
	t.Helper()
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", command, err, out)
	}
}

// gigabit puts a wire of 1 Gbit/s, without its Ethernet, IP and TCP headers,
// before a port of this machine, and answers the port at its other end.
func gigabit(t *testing.T, port int) int {
	t.Helper()
	const bytesPerSecond = 118_000_000
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				near.Close()
				return
			}
			go func() { io.Copy(far, near); far.Close() }()
			go func() { pace(near, far, bytesPerSecond); near.Close() }()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// pace copies at most so many bytes a second, with at most 10 ms of them at once.
func pace(to io.Writer, from io.Reader, bytesPerSecond float64) {
	const burst = 10 * time.Millisecond
	buf := make([]byte, 64<<10)
	free := time.Now() // when the wire is free again
	for {
		n, err := from.Read(buf)
		if now := time.Now(); free.Before(now.Add(-burst)) {
			free = now.Add(-burst)
		}
		free = free.Add(time.Duration(float64(n) / bytesPerSecond * float64(time.Second)))
		time.Sleep(time.Until(free))
		if _, writeErr := to.Write(buf[:n]); err != nil || writeErr != nil {
			return
		}
	}
}

// way is one way to copy the tree, and how much faster than the peer's it should be.
type way struct {
	name string
	bar  float64
	copy func(to string) error
}

func (w way) tell(ratio float64) {
	verdict := "ok"
	if ratio < w.bar {
		verdict = "short"
	}
	fmt.Printf("figure %s %.2f x >=%.1f %s\n", w.name, ratio, w.bar, verdict)
}

func timed(t *testing.T, copy func() error) time.Duration {
	t.Helper()
	// What the one wrote must not be paid for by the other.
	run(t, "sync")
	start := time.Now()
	if err := copy(); err != nil {
		t.Fatal(err)
	}
	return time.Since(start)
}

func median(all []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
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
	start(t, exec.Command("../../../out/bin/edeployd", "-config", conf))
	await(t, "edeployd", func() error {
		res, err := http.Get("http://127.0.0.1:28082/api/v1/version")
		if err == nil {
			res.Body.Close()
		}
		return err
	})
	push := exec.Command("../../../out/bin/edeployctl", "--server", "http://127.0.0.1:28082", "push",
		filepath.Join(cmp.Or(os.Getenv("EDEPLOY_IMAGES"), "../../../out/install"), image.Archive()))
	if out, err := push.CombinedOutput(); err != nil {
		t.Fatalf("push: %v\n%s", err, out)
	}
	args := wire.DefaultBootArgs()
	args.Serv, args.RServPort = "127.0.0.1", 28732
	return args
}

// serveRsync runs Debian's rsync daemon on a directory, as module tree.
func serveRsync(t *testing.T, dir string) (port int) {
	t.Helper()
	port = 28733
	conf := filepath.Join(t.TempDir(), "rsyncd.conf")
	text := fmt.Sprintf("port = %d\naddress = 127.0.0.1\nuse chroot = no\nuid = root\ngid = root\n[tree]\npath = %s\n", port, dir)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	start(t, exec.Command("rsync", "--daemon", "--no-detach", "--config", conf))
	url := fmt.Sprintf("rsync://127.0.0.1:%d/tree/", port)
	await(t, "rsync --daemon", func() error { return exec.Command("rsync", url).Run() })
	return port
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
