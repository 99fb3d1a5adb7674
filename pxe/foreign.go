package pxe

import (
	"context"
	"fmt"
	"strings"
	"time"

	"edeploy/pxe/internal/dhcp"
	"edeploy/pxe/internal/foreign"
)

// DefaultLook is how long a start listens for other DHCP servers. Some take
// three seconds for an offer, because they try its address first.
const DefaultLook = 4 * time.Second

// lookPause is between two looks while another server answers.
const lookPause = 30 * time.Second

// looking tells whether other servers are looked for before DHCP is answered.
func (s *Server) looking() bool {
	return s.conf.Mode == ModeDHCP && s.conf.Interface != "" && s.conf.Look > 0
}

// alone keeps DHCP quiet until no other server answers on the network: two
// would give one address to two machines. After the first look the server is
// ready.
func (s *Server) alone(ctx context.Context) error {
	for said := ""; ; s.dhcp.Be(dhcp.Looking) {
		others, err := foreign.Look(ctx, s.conf.Interface, s.conf.Look)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			s.say("cannot look for other DHCP servers, and answers all the same: %v", err)
		}
		if len(others) == 0 {
			s.dhcp.Be(dhcp.Answering)
			if said != "" {
				s.say("DHCP is answered from now on: no other server answers on %s any more", s.conf.Interface)
			}
			s.markReady("")
			return nil
		}
		s.dhcp.Be(dhcp.Quiet)
		why := fmt.Sprintf("DHCP stays quiet, because another DHCP server answers on %s: %s. "+
			"Switch it off, or let this one be a proxy beside it ([DHCP] MODE = proxy)", s.conf.Interface, names(others))
		if why != said {
			said = why
			s.say("%s", why)
		}
		s.markReady(why)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(lookPause):
		}
	}
}

func names(others []foreign.Server) string {
	var all []string
	for _, o := range others {
		all = append(all, o.String())
	}
	return strings.Join(all, ", ")
}

// markReady is called when it is known whether DHCP is answered.
func (s *Server) markReady(quiet string) {
	s.quiet.Store(&quiet)
	s.readyOnce.Do(func() { close(s.ready) })
}

// Quiet is why DHCP is not answered though it is to be; "" while it is. It may
// change after Ready.
func (s *Server) Quiet() string {
	if why := s.quiet.Load(); why != nil {
		return *why
	}
	return ""
}
