package tftp_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"edeploy/integration/needs"
)

// TestFigureTFTP is how fast a machine gets a loader when the wire loses
// packets, against dnsmasq on the same wire. The machine asks again after 4
// seconds, as UEFI's does.
func TestFigureTFTP(t *testing.T) {
	if os.Getenv("EDEPLOY_BENCH") != "1" {
		t.Skip("measures: EDEPLOY_BENCH=1 runs it (make bench)")
	}
	if !needs.Namespace(t, "dnsmasq") {
		return
	}
	needs.IP(t, "link", "set", "lo", "up")
	files := map[string][]byte{"whole": random(1 << 20), "quarter": random(1 << 18)}
	s := serve(t, 0, files)
	other := startDnsmasq(t, s.dir)
	for _, test := range []struct {
		percent, times int
		file           string
	}{{0, 20, "whole"}, {1, 1, "whole"}, {5, 1, "quarter"}} {
		ours, theirs := pace(t, s.addr, test.percent, test.times, test.file), pace(t, other, test.percent, test.times, test.file)
		verdict := "ok"
		if ours < theirs {
			verdict = "short"
		}
		fmt.Printf("figure tftp-loss-%d-percent %.2f MB/s >=%.2f(dnsmasq) %s\n", test.percent, ours, theirs, verdict)
	}
}

// startDnsmasq serves the directory; its port is 69.
func startDnsmasq(t *testing.T, dir string) netip.AddrPort {
	t.Helper()
	cmd := exec.Command("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root", "--pid-file="+filepath.Join(t.TempDir(), "pid"),
		"--enable-tftp", "--tftp-root="+dir, "--listen-address=127.0.0.1", "--bind-interfaces")
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	at := netip.MustParseAddrPort("127.0.0.1:69")
	for deadline := time.Now().Add(soon); ; time.Sleep(10 * time.Millisecond) {
		if _, err := fetch(at, "quarter", 100*time.Millisecond); err == nil {
			return at
		} else if time.Now().After(deadline) {
			t.Fatalf("dnsmasq does not answer: %v", err)
		}
	}
}

// pace is that of some transfers by a wire that loses packets, in MB/s.
func pace(t *testing.T, server netip.AddrPort, percent, times int, file string) float64 {
	t.Helper()
	bytes, began := int64(0), time.Now()
	for range times {
		n, err := fetch(losing(t, server, percent), file, 4*time.Second)
		if err != nil {
			t.Fatalf("%s from %s, %d %% lost: %v", file, server, percent, err)
		}
		bytes += n
	}
	return float64(bytes) / 1e6 / time.Since(began).Seconds()
}

// fetch gets a file as firmware does: it acknowledges a block once more that it
// has already, and, when nothing comes, the last one. It answers its bytes.
func fetch(from netip.AddrPort, file string, again time.Duration) (int64, error) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	const blksize = 1428
	last, bytes, block := fmt.Appendf(nil, "\x00\x01%s\x00octet\x00blksize\x00%d\x00", file, blksize), int64(0), uint16(0)
	for b, tries := make([]byte, 2048), 0; tries < 20; {
		if _, err := conn.WriteToUDPAddrPort(last, from); err != nil {
			return 0, err
		}
		_ = conn.SetReadDeadline(time.Now().Add(again))
		n, addr, err := conn.ReadFromUDPAddrPort(b)
		if err != nil {
			tries++
			continue
		}
		from = addr
		switch code := binary.BigEndian.Uint16(b[2:]); {
		case b[1] == 5:
			return 0, fmt.Errorf("refused: %q", b[4:n])
		case b[1] == 6: // the options
			last = []byte{0, 4, 0, 0}
		case code == block+1:
			block, tries, bytes = code, 0, bytes+int64(n-4)
			last = []byte{0, 4, b[2], b[3]}
			if n < blksize+4 {
				_, err := conn.WriteToUDPAddrPort(last, from)
				return bytes, err
			}
		}
	}
	return 0, fmt.Errorf("block %d does not come", block+1)
}

// losing is a wire for one transfer from the server, by the address that it answers.
func losing(t *testing.T, server netip.AddrPort, percent int) netip.AddrPort {
	t.Helper()
	var mu sync.Mutex
	chance := rand.New(rand.NewPCG(1, 1))
	lost := func(packet []byte) bool { // of data and acknowledgements
		mu.Lock()
		defer mu.Unlock()
		return packet[1] >= 3 && packet[1] <= 4 && chance.IntN(100) < percent
	}
	near, far := socket(t), socket(t)
	var machine netip.AddrPort
	to := server
	go func() {
		for b := make([]byte, 2048); ; {
			n, from, err := near.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			mu.Lock()
			machine = from
			at := to
			mu.Unlock()
			if !lost(b[:n]) {
				_, _ = far.WriteToUDPAddrPort(b[:n], at)
			}
		}
	}()
	go func() {
		for b := make([]byte, 2048); ; {
			n, from, err := far.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			mu.Lock()
			to = from
			at := machine
			mu.Unlock()
			if !lost(b[:n]) {
				_, _ = near.WriteToUDPAddrPort(b[:n], at)
			}
		}
	}()
	return near.LocalAddr().(*net.UDPAddr).AddrPort()
}

func socket(t *testing.T) *net.UDPConn {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}
