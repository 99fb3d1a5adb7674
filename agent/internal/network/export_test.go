package network

import (
	"net/netip"
	"time"
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
	begin := time.Unix(1000, 0)
	s := progress{begin: begin, lastCarrier: begin, linkUpTime: linkUp, server: "10.9.0.1:80"}
	for i, state := range states {
		p := &port{name: "eth" + string(rune('0'+i)), config: Config{Method: state.Method}, carrier: state.Carrier,
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
	return s.wait(begin.Add(at)), s.result(begin.Add(at))
}

// ResolvConf is the file written for the leases of some devices.
func ResolvConf(servers map[string][]netip.Addr, domains map[string]string) string {
	r := resolver{servers: servers, domains: domains}
	return r.text()
}
