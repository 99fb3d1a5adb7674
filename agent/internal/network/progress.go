package network

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Waiting times. The link-up time is the LINK_UP_TIMEOUT parameter.
const (
	pollTime    = time.Second      // between looks at the carriers when the kernel says nothing
	deviceTime  = 6 * time.Second  // for the first network device (reference section 2.2, a)
	carrierTime = 5 * time.Second  // for further carriers after one came: negotiation of 10GBASE-T takes up to that
	answerTime  = 10 * time.Second // for further DHCP answers once the server answers (2.2, c)
	giveUpTime  = 90 * time.Second // for the first carrier, after the link-up time
	addressTime = 5 * time.Minute  // for the first address, after the link-up time: spanning tree takes 30-50 s, some servers two minutes
	headStart   = 3 * time.Second  // of the card that the machine booted from
	serverTime  = time.Hour        // for the server's answer once there is an address: as long as every step waits for it
)

// hurry divides all waiting times; tests are in a hurry.
type hurry int

func (h hurry) of(d time.Duration) time.Duration { return d / time.Duration(max(1, h)) }

type port struct {
	name    string
	index   int
	config  Config
	boot    bool // the machine booted from it
	carrier bool

	started time.Time    // configuration began; zero: not yet
	address netip.Prefix // valid once there is one
	asked   int          // DHCP rounds without an answer
	err     error        // of the last of them, or of static configuration
	failed  bool         // nothing more will be tried

	reached   bool      // the server answered by this device
	serverErr error     // why it does not
	logged    time.Time // when that was logged
}

// done says that nothing better is to come; the card that the machine booted from
// also says whether it leads to the server.
func (p *port) done() bool {
	return p.failed || p.address.IsValid() && (!p.boot || p.reached || p.serverErr != nil)
}

// progress is what the decision to go on or to wait is made of.
type progress struct {
	ports       []*port
	begin       time.Time // links were set up
	lastCarrier time.Time // last change of a carrier; begin before the first
	linkUpTime  time.Duration
	server      string // host and port
	hurry       hurry
}

// wanted are the ports that shall get an address.
func (s *progress) wanted() []*port {
	return slices.DeleteFunc(slices.Clone(s.ports), func(p *port) bool { return p.config.Method == None })
}

// startable are the ports to configure now: wanted, with carrier, not begun. The one
// that the machine booted from goes first.
func (s *progress) startable(now time.Time) []*port {
	wanted := s.wanted()
	first := slices.ContainsFunc(wanted, func(p *port) bool { return p.boot && !p.failed }) &&
		!s.reached() && now.Before(s.begin.Add(s.hurry.of(headStart)))
	return slices.DeleteFunc(wanted, func(p *port) bool { return !p.carrier || !p.started.IsZero() || first && !p.boot })
}

// wait says how much longer to wait for more ports; nothing or less means that
// the network is as good as it gets. When the server answers the bounds are
// short; until then all wanted ports must have failed, or a long bound be over.
func (s *progress) wait(now time.Time) time.Duration {
	limit := s.begin.Add(s.linkUpTime + s.hurry.of(giveUpTime)).Sub(now)
	if s.anyCarrier() {
		limit = s.begin.Add(s.linkUpTime + s.hurry.of(addressTime)).Sub(now)
	}
	addressed, rest := false, time.Duration(0)
	allFailed := true
	for _, p := range s.wanted() {
		addressed = addressed || p.address.IsValid()
		allFailed = allFailed && p.failed
		if !p.done() {
			rest = max(rest, s.deadline(p).Sub(now))
		}
	}
	switch {
	case allFailed: // or none wanted
		return 0
	case s.reached():
		return min(rest, limit)
	case addressed:
		return s.begin.Add(s.hurry.of(serverTime)).Sub(now)
	}
	return limit
}

func (s *progress) reached() bool {
	return slices.ContainsFunc(s.ports, func(p *port) bool { return p.reached })
}

// deadline is until when a port is waited for when another leads to the server.
func (s *progress) deadline(p *port) time.Time {
	if !p.started.IsZero() {
		return p.started.Add(s.hurry.of(answerTime))
	}
	until := s.begin.Add(s.linkUpTime)
	if quiet := s.lastCarrier.Add(s.hurry.of(carrierTime)); s.anyCarrier() && quiet.Before(until) {
		until = quiet
	}
	return until
}

func (s *progress) anyCarrier() bool {
	return slices.ContainsFunc(s.ports, func(p *port) bool { return p.carrier })
}

// result is nil when a port leads to the server or none shall have an address.
func (s *progress) result(now time.Time) error {
	wanted := s.wanted()
	if len(wanted) == 0 || s.reached() {
		return nil
	}
	what, tried := "no network", []string{}
	for _, p := range wanted {
		if p.address.IsValid() {
			what = "no answer of the server " + s.server
		}
		tried = append(tried, p.explain())
	}
	return fmt.Errorf("%s after %.0f s: %s", what, now.Sub(s.begin).Seconds(), strings.Join(tried, "; "))
}

// explain says what happened on a port that does not lead to the server.
func (p *port) explain() string {
	device := p.config.device(p.name)
	switch {
	case p.address.IsValid() && p.serverErr == nil:
		return fmt.Sprintf("%s has %s, and the server was not asked yet", device, p.address)
	case p.address.IsValid():
		return fmt.Sprintf("%s has %s, and does not lead to the server: %v", device, p.address, p.serverErr)
	case !p.carrier:
		return p.name + " has no carrier"
	case p.started.IsZero():
		return p.name + " was not tried yet"
	case p.config.Method == Static:
		return fmt.Sprintf("%s: %v", device, p.err)
	case p.err == nil:
		return device + " has a carrier, DHCP was asked and has not answered"
	}
	return fmt.Sprintf("%s has a carrier, DHCP was asked %d times: %v", device, p.asked, p.err)
}
