package dhcp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"edeploy/pxe/internal/probe"
	"edeploy/pxe/internal/quiet"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sync/errgroup"
)

// Server is the loop around Answer, or around Proxy.
type Server struct {
	Network Network
	Proxy   bool // beside another server, which gives the addresses
	// Save makes the leases durable; nil: that of every subnet's table.
	Save   func() error
	Notify func(Answer) // called for every answer that is an event; must not block
	Log    *slog.Logger

	silence    atomic.Int32  // Silence
	prober     *probe.Prober // nil: nobody is asked whether an address is used
	socket     *socket
	bootSocket *socket // port 4011, beside another server; else nil
	quiet      quiet.Limiter
}

// Silence is how far a server keeps quiet.
type Silence int32

// The kinds of silence.
const (
	Answering Silence = iota // none
	Looking                  // only appliances that look, too, and have a higher Ethernet address, are answered
	Quiet                    // nobody is answered
)

// Be sets how far the server keeps quiet. One that answers beside another server
// always answers.
func (s *Server) Be(how Silence) { s.silence.Store(int32(how)) }

// quietAbout tells whether a request is left unanswered.
func (s *Server) quietAbout(req *dhcpv4.DHCPv4) bool {
	switch Silence(s.silence.Load()) {
	case Answering:
		return false
	case Looking:
		return !looks(req) || bytes.Compare(s.socket.own[:], req.ClientHWAddr) >= 0
	}
	return true
}

// bootPort is where machines that have their address from another server ask
// what to boot (PXE specification 2.1, section 2.2.3).
const bootPort = 4011

// maxWaiting is how many answers may wait for the lease file to be written.
// The machines of further ones ask again by themselves.
const maxWaiting = 1024

// outgoing is an answer and where its request came from.
type outgoing struct {
	Answer
	socket *socket
	peer   netip.AddrPort
}

// Listen opens the socket: bound to the device, so that requests of other
// networks are not even seen. Without a device it only takes a loopback
// address, for tests.
func (s *Server) Listen(device string, listen netip.AddrPort) error {
	socket, err := openSocket(device, listen, s.Network.Self)
	if err != nil {
		return fmt.Errorf("DHCP: %w", err)
	}
	if socket.frames == nil && device != "" {
		s.Log.Warn("DHCP answers are broadcast: no raw socket", "device", device, "err", socket.framesErr)
	}
	s.socket = socket
	if !s.Proxy {
		s.openProber(device)
		return nil
	}
	port := uint16(bootPort)
	if listen.Port() == 0 { // of a test
		port = 0
	}
	s.bootSocket, err = openSocket(device, netip.AddrPortFrom(listen.Addr(), port), s.Network.Self)
	if err != nil {
		socket.Close()
		return fmt.Errorf("ProxyDHCP: %w", err)
	}
	return nil
}

// Addr is the address that Listen bound.
func (s *Server) Addr() netip.AddrPort { return s.socket.addr() }

// BootAddr is the one of port 4011, beside another server.
func (s *Server) BootAddr() netip.AddrPort { return s.bootSocket.addr() }

// Serve answers until ctx ends or a socket fails.
func (s *Server) Serve(ctx context.Context) error {
	if s.Proxy {
		return s.serveProxy(ctx)
	}
	if s.Save == nil {
		s.Save = s.save
	}
	waiting := make(chan outgoing, maxWaiting)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(waiting)
		return s.receive(ctx, s.socket, func(req *dhcpv4.DHCPv4, peer netip.AddrPort) {
			if s.quietAbout(req) {
				return
			}
			s.decide(req, peer, waiting, maxProbes)
		})
	})
	if s.prober != nil {
		g.Go(func() error {
			if err := s.prober.Serve(ctx); err != nil {
				s.Log.Warn("addresses are given without asking whether they are used", "err", err)
			}
			return nil
		})
	}
	g.Go(func() error {
		s.confirm(waiting)
		return nil
	})
	return g.Wait()
}

// serveProxy answers beside another server.
func (s *Server) serveProxy(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, socket := range []*socket{s.socket, s.bootSocket} {
		g.Go(func() error {
			return s.receive(ctx, socket, func(req *dhcpv4.DHCPv4, peer netip.AddrPort) {
				s.finish(outgoing{s.Network.Proxy(req, socket == s.bootSocket), socket, peer})
			})
		})
	}
	return g.Wait()
}

// receive reads requests until ctx ends, and closes the socket.
func (s *Server) receive(ctx context.Context, from *socket, handle func(*dhcpv4.DHCPv4, netip.AddrPort)) error {
	stop := context.AfterFunc(ctx, func() { from.udp.Close() })
	defer stop()
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, peer, err := from.receive(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("DHCP: receive: %w", err)
		}
		req, err := parse(buf[:n])
		if err != nil {
			s.ignored(hardware(buf[:n]), fmt.Sprintf("ignored: %v", err), "from", peer.String())
			continue
		}
		handle(req, peer)
	}
}

// decide decides about a request and answers it.
func (s *Server) decide(req *dhcpv4.DHCPv4, peer netip.AddrPort, waiting chan<- outgoing, probes int) {
	out := outgoing{s.Network.Answer(req), s.socket, peer}
	if out.Probe && s.prober != nil && probes > 0 && s.probe(req, out, probes) {
		return
	}
	s.answer(out, waiting)
}

// answer sends an answer; one that must be durable first goes to waiting.
func (s *Server) answer(out outgoing, waiting chan<- outgoing) {
	if !out.Durable {
		s.finish(out)
		return
	}
	select {
	case waiting <- out:
	default:
		s.Log.Warn("DHCP answer dropped: the lease file is written too slowly", "mac", out.MAC)
	}
}

// save makes the leases of all subnets durable.
func (s *Server) save() error {
	var errs []error
	for _, subnet := range s.Network.Subnets {
		errs = append(errs, subnet.Leases.Save())
	}
	return errors.Join(errs...)
}

// confirm makes leases durable and then sends their answers, as many at a time
// as have come together while the previous ones were written (group commit).
func (s *Server) confirm(waiting <-chan outgoing) {
	for first := range waiting {
		batch := append([]outgoing{first}, drain(waiting)...)
		if err := s.Save(); err != nil {
			s.Log.Error("DHCP answers withheld: leases are not on disk", "answers", len(batch), "err", err)
			for _, out := range batch {
				s.withhold(out.Answer, err)
			}
			continue
		}
		for _, out := range batch {
			s.finish(out)
		}
	}
}

// withhold tells why a machine gets no answer, not at each of its tries.
func (s *Server) withhold(a Answer, err error) {
	if ok, _ := s.quiet.Allow(a.From+" unsaved", time.Now()); ok && s.Notify != nil {
		a.Sentence = fmt.Sprintf("gets no answer: its lease cannot be kept: %v", err)
		s.Notify(a)
	}
}

// ignored logs what is not answered, not too often.
func (s *Server) ignored(from, sentence string, more ...any) {
	if ok, last := s.quiet.Allow(from+" "+sentence, time.Now()); ok {
		s.Log.Warn("DHCP", append([]any{"mac", from, "sentence", sentence, "more_left_out", last}, more...)...)
	}
}

// drain takes what is in the channel now.
func drain(waiting <-chan outgoing) (all []outgoing) {
	for {
		select {
		case out, ok := <-waiting:
			if !ok {
				return all
			}
			all = append(all, out)
		default:
			return all
		}
	}
}

// finish logs an answer, tells who wants to know, and sends it. The machine goes
// on the moment it has the answer: telling later would put its next steps
// before this one.
func (s *Server) finish(out outgoing) {
	if out.Ignored && out.Sentence == "" {
		return
	}
	if out.Ignored {
		s.ignored(out.From, out.Sentence, "request", out.Request.String())
		return
	}
	if out.Event && out.Reply == nil {
		// What any machine can say as often as it likes.
		if ok, _ := s.quiet.Allow(out.From+" "+out.Sentence, time.Now()); !ok {
			return
		}
	}
	log := s.Log.With("mac", out.MAC.String(), "kind", out.Client.Kind, "request", out.Request.String())
	if out.Reply != nil {
		log = log.With("answer", out.Reply.MessageType().String())
	}
	log.Info("DHCP", "sentence", out.Sentence)
	if out.Event && s.Notify != nil {
		s.Notify(out.Answer)
	}
	if out.Reply == nil {
		return
	}
	err := out.socket.send(out.To, out.MAC, out.peer, out.Reply.ToBytes())
	if err != nil && !errors.Is(err, net.ErrClosed) {
		log.Error("DHCP answer not sent", "to", out.To.Addr, "err", err)
	}
}
