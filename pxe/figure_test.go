package pxe_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"edeploy/integration/needs"
)

// TestFigureDHCP is how many whole exchanges a second (DISCOVER to ACK) a
// thousand machines get at 8,000 offered, and how long an ACK takes at 200,
// against Kea under the same load; both have every lease on disk.
func TestFigureDHCP(t *testing.T) {
	if os.Getenv("EDEPLOY_BENCH") != "1" {
		t.Skip("measures: EDEPLOY_BENCH=1 runs it (make bench)")
	}
	if !needs.Namespace(t, "perfdhcp", "kea-dhcp4") {
		return
	}
	wire := newWire(t)
	needs.IP(t, "address", "add", "10.5.0.1/16", "dev", "srv0")
	wire.Run(t, "ip", "address", "add", "10.5.0.2/16", "dev", "cli0")
	conf := onWire(t)
	conf.Address = netip.MustParsePrefix("10.5.0.1/16")
	conf.RangeFirst, conf.RangeLast = netip.MustParseAddr("10.5.1.0"), netip.MustParseAddr("10.5.200.255")
	conf.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	_, stop := run(t, conf)
	ours := measureDHCP(t, wire)
	stop()
	kea := startKea(t)
	theirs := measureDHCP(t, wire)
	kea()
	figure("dhcp-exchanges", ours.rate, "/s", theirs.rate, ours.rate >= theirs.rate, ">")
	figure("dhcp-ack", ours.ack, "ms", theirs.ack, ours.ack <= theirs.ack, "<")
}

func figure(name string, got float64, unit string, bar float64, ok bool, sign string) {
	verdict := "ok"
	if !ok {
		verdict = "short"
	}
	fmt.Printf("figure %s %.2f %s %s=%.2f(Kea) %s\n", name, got, unit, sign, bar, verdict)
}

type dhcpFigures struct {
	rate float64 // exchanges a second
	ack  float64 // ms from REQUEST to ACK, on average
}

func measureDHCP(t *testing.T, wire *testWire) (f dhcpFigures) {
	t.Helper()
	f.rate = number(t, perfdhcp(t, wire, "-r", "8000", "-p", "10"), `Rate: ([0-9.]+) 4-way exchanges/second`)
	f.ack = number(t, perfdhcp(t, wire, "-r", "200", "-p", "5"), `(?s)REQUEST-ACK.*?avg delay: ([0-9.]+) ms`)
	return f
}

// perfdhcp loads the server from the other end of the wire, as a relay would.
func perfdhcp(t *testing.T, wire *testWire, args ...string) string {
	t.Helper()
	args = append(append([]string{"perfdhcp", "-4", "-l", "cli0", "-R", "1000", "-W", "1000000"}, args...), "10.5.0.1")
	out, err := wire.Command(t.Context(), args...).CombinedOutput()
	t.Logf("%v\n%s", args, out)
	if exit, ok := err.(*exec.ExitError); err != nil && (!ok || exit.ExitCode() != 3) { // 3: some exchanges were not finished
		t.Fatalf("%v: %v", args, err)
	}
	return string(out)
}

func number(t *testing.T, text, pattern string) float64 {
	t.Helper()
	match := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if match == nil {
		t.Fatalf("no %s in:\n%s", pattern, text)
	}
	n, err := strconv.ParseFloat(match[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// startKea starts Kea on srv0.
func startKea(t *testing.T) (stop func()) {
	t.Helper()
	dir := t.TempDir()
	conf := filepath.Join(dir, "conf")
	text := fmt.Sprintf(`{"Dhcp4": {"interfaces-config": {"interfaces": ["srv0/10.5.0.1"], "dhcp-socket-type": "udp"},
"lease-database": {"type": "memfile", "persist": true, "name": %q}, "valid-lifetime": 3600,
"subnet4": [{"subnet": "10.5.0.0/16", "pools": [{"pool": "10.5.1.0 - 10.5.200.255"}]}],
"loggers": [{"name": "kea-dhcp4", "severity": "WARN"},
{"name": "kea-dhcp4.dhcp4", "severity": "INFO", "output_options": [{"output": "stdout", "flush": true}]}]}}`, filepath.Join(dir, "leases"))
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	p := startCommand(t, exec.Command("env", "KEA_PIDFILE_DIR="+dir, "KEA_LOCKFILE_DIR="+dir, "kea-dhcp4", "-c", conf))
	p.expect("DHCP4_STARTED")
	return p.kill
}
