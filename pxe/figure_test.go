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
	"slices"
	"strconv"
	"strings"
	"testing"

	"edeploy/integration/needs"
)

// TestFigureDHCP is how many whole exchanges a second (DISCOVER to ACK) a
// thousand machines get when more are offered than any server here answers,
// and in what time 99 of 100 machines have their ACK at 200 a second, against
// Kea and dnsmasq under the same load; all have every lease on disk. Each is
// measured three times in turn, and its best counts: what else the machine does
// makes a server only worse.
func TestFigureDHCP(t *testing.T) {
	if os.Getenv("EDEPLOY_BENCH") != "1" {
		t.Skip("measures: EDEPLOY_BENCH=1 runs it (make bench)")
	}
	if !needs.Namespace(t, "perfdhcp", "kea-dhcp4", "dnsmasq") {
		return
	}
	wire := newWire(t)
	needs.IP(t, "address", "add", "10.5.0.1/16", "dev", "srv0")
	wire.Run(t, "ip", "address", "add", "10.5.0.2/16", "dev", "cli0")
	conf := onWire(t)
	conf.Address = netip.MustParsePrefix("10.5.0.1/16")
	conf.RangeFirst, conf.RangeLast = netip.MustParseAddr("10.5.1.0"), netip.MustParseAddr("10.5.200.255")
	conf.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	servers := []struct {
		name  string
		start func(*testing.T) (stop func())
	}{
		{"ours", func(t *testing.T) func() { _, stop := run(t, conf); return stop }},
		{"Kea", startKea},
		{"dnsmasq", startDnsmasq},
	}
	figures := make([]dhcpFigures, len(servers))
	for range 3 {
		for i, server := range servers {
			stop := server.start(t)
			figures[i] = figures[i].better(measureDHCP(t, wire))
			stop()
		}
	}
	ours := figures[0]
	for i, theirs := range figures[1:] {
		name := servers[1+i].name
		figure("dhcp-exchanges", ours.rate, "/s", ">=", theirs.rate, name, ours.rate >= theirs.rate)
		figure("dhcp-ack-p99", ours.ack, "ms", "<=", theirs.ack, name, ours.ack <= theirs.ack)
	}
}

func figure(name string, got float64, unit, sign string, bar float64, peer string, ok bool) {
	verdict := "ok"
	if !ok {
		verdict = "short"
	}
	fmt.Printf("figure %s %.2f %s %s%.2f(%s) %s\n", name, got, unit, sign, bar, peer, verdict)
}

type dhcpFigures struct {
	rate float64 // exchanges a second
	ack  float64 // ms from REQUEST to ACK of 99 machines in 100
}

// better takes the best of two measurements.
func (f dhcpFigures) better(g dhcpFigures) dhcpFigures {
	if f.ack > 0 {
		g.ack = min(f.ack, g.ack)
	}
	return dhcpFigures{max(f.rate, g.rate), g.ack}
}

func measureDHCP(t *testing.T, wire *testWire) dhcpFigures {
	t.Helper()
	rate := regexp.MustCompile(`Rate: ([0-9.]+) 4-way exchanges/second`).FindStringSubmatch(perfdhcp(t, wire, "-r", "24000", "-p", "10"))
	_, acks, _ := strings.Cut(perfdhcp(t, wire, "-r", "200", "-p", "5", "-x", "t"), "Timestamps for packets: REQUEST-ACK")
	var times []float64
	for _, m := range regexp.MustCompile(`sent / received: ([0-9.]+) / ([0-9.]+)`).FindAllStringSubmatch(acks, -1) {
		times = append(times, 1000*(number(t, m[2])-number(t, m[1])))
	}
	if rate == nil || len(times) == 0 {
		t.Fatal("perfdhcp printed no rate, or no times of an ACK")
	}
	slices.Sort(times)
	return dhcpFigures{number(t, rate[1]), times[len(times)*99/100]}
}

// perfdhcp loads the server from the other end of the wire, as a relay would.
func perfdhcp(t *testing.T, wire *testWire, args ...string) string {
	t.Helper()
	args = append(append([]string{"perfdhcp", "-4", "-l", "cli0", "-R", "1000", "-W", "1000000"}, args...), "10.5.0.1")
	out, err := wire.Command(t.Context(), args...).CombinedOutput()
	statistics, _, _ := strings.Cut(string(out), "***Timestamps")
	t.Logf("%v\n%s", args, statistics)
	if exit, ok := err.(*exec.ExitError); err != nil && (!ok || exit.ExitCode() != 3) { // 3: some exchanges were not finished
		t.Fatalf("%v: %v", args, err)
	}
	return string(out)
}

func number(t *testing.T, text string) float64 {
	t.Helper()
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// startDnsmasq starts dnsmasq on srv0.
func startDnsmasq(t *testing.T) (stop func()) {
	t.Helper()
	p := startCommand(t, exec.Command("dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--no-hosts", "--no-resolv", "--user=root",
		"--interface=srv0", "--bind-interfaces", "--no-ping", "--quiet-dhcp", "--dhcp-lease-max=100000", "--dhcp-leasefile="+filepath.Join(t.TempDir(), "leases"),
		"--dhcp-range=10.5.1.0,10.5.200.255,255.255.0.0,1h"))
	p.expect("sockets bound exclusively to interface srv0")
	return p.kill
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
