package network

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"edeploy/server/wire"
)

// Unexported decisions for the external tests.
var (
	NextRenewal = nextRenewal
	Routes      = routes
)

// PortState describes a port for a test of the decision to wait; times are
// since the links were set up, negative: never.
type PortState struct {
	Method           Method
	Boot             bool
	VLAN             int
	Carrier          bool
	Started, Changed time.Duration
	Address          bool
	Reached          bool
	Silence          error
	Failed           bool
	Err              error
	Asked            int
}

// Decide is the decision at a moment: how long to wait, and the result if not.
func Decide(at, linkUp time.Duration, states ...PortState) (time.Duration, error) {
	s := progressOf(linkUp, states)
	return s.wait(s.begin.Add(at)), s.result(s.begin.Add(at))
}

// Starts names the ports that begin at a moment.
func Starts(at time.Duration, states ...PortState) (names []string) {
	s := progressOf(10*time.Second, states)
	for _, p := range s.startable(s.begin.Add(at)) {
		names = append(names, p.name)
	}
	return names
}

// UpInAHurry is Up with all waiting times divided.
func UpInAHurry(ctx context.Context, args wire.BootArgs, log *slog.Logger, times int) error {
	return up(ctx, args, log, hurry(times))
}

// Advise is what is said of a server that does not answer a port with this plan.
func Advise(config Config, server string, err error) error {
	return job{config: config, server: server}.advise(err)
}

func progressOf(linkUp time.Duration, states []PortState) *progress {
	begin := time.Unix(1000, 0)
	s := &progress{begin: begin, lastCarrier: begin, linkUpTime: linkUp, server: "10.9.0.1:80"}
	for i, state := range states {
		p := &port{name: "eth" + string(rune('0'+i)), config: Config{Method: state.Method, VLAN: state.VLAN}, boot: state.Boot, carrier: state.Carrier,
			failed: state.Failed, err: state.Err, asked: state.Asked, reached: state.Reached, serverErr: state.Silence}
		if state.Started > 0 {
			p.started = begin.Add(state.Started)
		}
		if changed := begin.Add(state.Changed); changed.After(s.lastCarrier) {
			s.lastCarrier = changed
		}
		if state.Address {
			p.address = netip.MustParsePrefix("10.9.0.5/24")
		}
		s.ports = append(s.ports, p)
	}
	return s
}

// ResolvConf is the file written for the leases of some devices.
func ResolvConf(servers map[string][]netip.Addr, domains map[string]string) string {
	r := resolver{servers: servers, domains: domains}
	return r.text()
}
