package dhcp

import (
	"fmt"

	"edeploy/pxe/internal/lease"
	"edeploy/pxe/internal/probe"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// maxProbes is how many addresses are tried for one request.
const maxProbes = 4

// openProber opens the sockets to ask whether addresses are used; without them
// addresses are given unasked.
func (s *Server) openProber(device string) {
	s.prober = nil
	if device == "" {
		return
	}
	var err error
	if s.prober, err = probe.Open(device); err != nil {
		s.prober = nil
		s.Log.Warn("addresses are given without asking whether they are used", "device", device, "err", err)
	}
}

// probe asks whether somebody uses the address of an offer, and sends it when
// nobody does; else the address is set aside and another one is tried. It
// answers false when it cannot ask. Offers are never durable, so none waits for
// the lease file.
func (s *Server) probe(req *dhcpv4.DHCPv4, out outgoing, probes int) bool {
	return s.prober.Ask(out.MAC, out.Address, out.Near, func(used bool) {
		if !used {
			s.finish(out)
			return
		}
		for _, subnet := range s.Network.Subnets {
			if subnet.Prefix.Contains(out.Address) && subnet.Leases.SetAside(out.Address) {
				taken := out.Answer
				taken.Reply, taken.Event = nil, true
				taken.Sentence = fmt.Sprintf("is not offered %s: somebody without a lease uses it; it is set aside for %s", out.Address, lease.DeclineTime)
				s.finish(outgoing{taken, out.socket, out.peer})
			}
		}
		s.decide(req, out.peer, nil, probes-1)
	})
}
