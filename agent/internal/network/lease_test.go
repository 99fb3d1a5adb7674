package network_test

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"edeploy/agent/internal/network"
	"edeploy/integration/needs"
)

// An address is no success: a quick DHCP server answers on the wrong card, the
// right one's is late, as behind a switch with spanning tree.
func TestServerDecides(t *testing.T) {
	for _, test := range []struct {
		name, wrong, pool string
	}{
		{"another network", "10.5.0.2/24", "--dhcp-range=10.5.0.50,10.5.0.60,255.255.255.0,1h"},
		{"the same network", "10.9.0.2/24", "--dhcp-range=10.9.0.50,10.9.0.60,255.255.255.0,1h"},
	} {
		t.Run(test.name, func(t *testing.T) {
			needs.Programs(t, "dnsmasq", "ip")
			if !alone(t) {
				return
			}
			wrong, right := cable(t, "eth0", "far0"), cable(t, "eth1", "far1")
			_, out := otherEnd(t, wrong, test.wrong, dnsmasq(t, "far0", 0, test.pool, "--dhcp-option=option:router,"+strings.TrimSuffix(test.wrong, "/24"))...)
			until(t, out, "DHCP, IP range")
			late := dnsmasq(t, "far1", 5353, "--dhcp-range=10.9.0.70,10.9.0.80,255.255.255.0,1h")
			otherEnd(t, right, "10.9.0.1/24", append([]string{"sh", "-c", `sleep 13; exec "$@"`, "sh"}, late...)...)

			ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
			defer cancel()
			begin := time.Now()
			if err := network.Up(ctx, args("all:dhcp", 3), slog.New(slog.NewTextHandler(t.Output(), nil))); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begin); took < 13*time.Second {
				t.Errorf("up after %s, before there was a server", took)
			}
			if got := addresses(t, "eth0"); len(got) != 1 {
				t.Errorf("eth0 has %v, want one address", got)
			}
			if got := addresses(t, "eth1"); len(got) != 1 || !strings.HasPrefix(got[0], "10.9.0.7") && !strings.HasPrefix(got[0], "10.9.0.80") {
				t.Errorf("eth1 has %v, want one of 10.9.0.70 to .80", got)
			}
			conn, err := net.DialTimeout("tcp", "10.9.0.1:5353", 5*time.Second)
			if err != nil {
				t.Fatalf("as every step does it, the server is not reached: %v", err)
			}
			conn.Close()
		})
	}
}
