// Package tftp serves the files of one directory, read-only, to boot ROMs
// (RFC 1350 with the options blksize and tsize, RFC 2347 to 2349).
//
// TFTP only carries the boot loaders of some hundred kilobytes; kernel and
// initrd go over HTTP.
package tftp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"edeploy/pxe/internal/quiet"

	"github.com/pin/tftp/v3"
	"golang.org/x/sys/unix"
)

// DefaultSessions is how many transfers may run at once, a quarter of them to
// one client address. A request beyond it is not answered; boot ROMs ask again
// after a few seconds.
const DefaultSessions = 256

// Server serves the files of Root, and those that are Made.
type Server struct {
	Root     *os.Root
	Sessions int           // most transfers at once; 0: DefaultSessions
	Patience time.Duration // how long a client may be silent; 0: DefaultPatience
	Log      *slog.Logger
	// Made answers files that are not in Root but made for who asks, by their
	// names without a leading slash; nil: there are none.
	Made func(name string) (text string, ok bool)
	// Notify is called after a complete transfer.
	Notify func(client netip.Addr, name string, bytes int64, took time.Duration)

	device    string
	conn      *net.UDPConn
	transfers *transfers
	quiet     quiet.Limiter
}

// Listen opens the socket on one address, and on one device if it is named. A
// server can listen and serve again after Serve has ended.
func (s *Server) Listen(device string, listen netip.AddrPort) error {
	if listen.Addr().IsUnspecified() {
		return fmt.Errorf("TFTP: listen on %s: want the one address that machines ask; it is where the data come from", listen)
	}
	s.device = device
	config := net.ListenConfig{Control: s.bind}
	conn, err := config.ListenPacket(context.Background(), "udp4", listen.String())
	if err != nil {
		return fmt.Errorf("TFTP: %w", err)
	}
	if s.Sessions == 0 {
		s.Sessions = DefaultSessions
	}
	if s.Patience == 0 {
		s.Patience = DefaultPatience
	}
	if raw, err := conn.(*net.UDPConn).SyscallConn(); err == nil {
		// Room for a whole rack that is switched on at once; without the right
		// to have it, the usual size must do.
		_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1<<20) })
	}
	s.conn, s.transfers = conn.(*net.UDPConn), newTransfers(s.Sessions)
	return nil
}

// bind binds a socket to the device.
func (s *Server) bind(_, _ string, raw syscall.RawConn) error {
	if s.device == "" {
		return nil
	}
	var err error
	if e := raw.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), s.device) }); e != nil {
		return e
	}
	if err != nil {
		return fmt.Errorf("bind to network device %s: %w", s.device, err)
	}
	return nil
}

// Addr is the address that Listen bound.
func (s *Server) Addr() netip.AddrPort { return s.conn.LocalAddr().(*net.UDPAddr).AddrPort() }

// Close closes the socket of a server that is not going to serve.
func (s *Server) Close() error { return s.conn.Close() }

// Serve serves until ctx ends or the socket fails; running transfers are given
// up.
func (s *Server) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	defer s.conn.Close()
	stop := context.AfterFunc(ctx, func() { s.conn.Close() })
	defer stop()
	largest := s.largestBlock()
	buf := make([]byte, 2048)
	for {
		n, client, err := s.conn.ReadFromUDPAddrPort(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("TFTP: receive: %w", err)
		}
		req, err := parseRequest(buf[:n])
		if err != nil {
			s.turnDown(client, err)
			continue
		}
		t := &transfer{client: client, packet: append([]byte(nil), buf[:n]...)}
		var own context.Context
		own, t.end = context.WithCancelCause(ctx)
		ok, why := s.transfers.begin(t)
		if why != "" {
			s.Log.Warn(why)
		}
		if !ok {
			t.end(nil)
			continue
		}
		running.Go(func() {
			defer t.end(nil)
			defer s.transfers.done(t)
			s.serve(own, t, req, largest)
		})
	}
}

// turnDown answers what is not a read request, if there is an answer to it.
func (s *Server) turnDown(client netip.AddrPort, err error) {
	refused, ok := errors.AsType[refusal](err)
	if !ok {
		return
	}
	s.warn(client, "", err)
	// A client that does not hear it gives up by itself.
	_, _ = s.conn.WriteToUDPAddrPort(errorPacket(refused), client)
}

// warn logs why a request was not served, not too often.
func (s *Server) warn(client netip.AddrPort, name string, err error) {
	ok, last := s.quiet.Allow(client.Addr().String()+" "+name, time.Now())
	if ok {
		s.Log.Warn("TFTP request refused", "client", client.Addr().Unmap().String(), "file", name, "err", err, "more_left_out", last)
	}
}

// largestBlock is the largest block whose packet fits a frame of the device:
// the MTU without the headers of IP, UDP and TFTP. Many ROMs cannot put
// fragments together.
func (s *Server) largestBlock() int {
	const headers, ethernet = 20 + 8 + 4, 1500
	device := s.device
	if device == "" {
		device = "lo"
	}
	mtu := ethernet
	if i, err := net.InterfaceByName(device); err == nil {
		mtu = i.MTU
	}
	return min(max(mtu-headers, defaultBlock), maxBlock)
}

// serve runs one transfer. A request that cannot be served for want of
// something that comes back is not answered: the client asks again.
func (s *Server) serve(ctx context.Context, t *transfer, req request, largest int) {
	conn, err := s.dial(ctx, t.client)
	if err != nil {
		s.warn(t.client, req.name, err)
		return
	}
	defer conn.Close()
	began := time.Now()
	wire := &session{UDPConn: conn, client: net.UDPAddrFromAddrPort(t.client), patience: s.Patience, request: req.packet(), since: began,
		heard: func() { s.transfers.acknowledged(t) }}
	stop := context.AfterFunc(ctx, func() { wire.end(context.Cause(ctx)) })
	defer stop()
	var missing error
	var protocol *tftp.Server
	protocol = tftp.NewServer(func(_ string, to io.ReaderFrom) error {
		defer protocol.Shutdown()
		missing = s.send(req.name, to)
		if missing != nil && isShortage(missing) {
			wire.end(missing)
		}
		return missing
	}, nil)
	protocol.EnableSinglePort()
	protocol.SetBlockSizeNegotiation(false)
	protocol.SetBlockSize(req.block(largest))
	protocol.SetTimeout(resendAfter)
	protocol.SetRetries(math.MaxInt) // the session ends it
	protocol.SetBackoff(func(resent int) time.Duration { return resendAfter * time.Duration(min(resent, 3)) })
	if err := protocol.Serve(wire); err != nil {
		s.warn(t.client, req.name, err)
		return
	}
	if missing != nil {
		s.warn(t.client, req.name, missing)
		return
	}
	n, err := wire.outcome()
	s.finish(t, req.name, n, time.Since(began), err)
}

// send sends a file. An error is about the file; why a client did not get it
// is the session's to say.
func (s *Server) send(name string, to io.ReaderFrom) error {
	if s.Made != nil {
		if text, ok := s.Made(cleanName(name)); ok {
			_, _ = to.ReadFrom(strings.NewReader(text))
			return nil
		}
	}
	file, err := s.open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	// The library seeks for the size, before it reads.
	_, _ = to.ReadFrom(struct {
		io.Reader
		io.Seeker
	}{bufio.NewReaderSize(file, 64<<10), file})
	return nil
}

// dial opens the transfer's own socket: on the same device, from the address
// that was asked (RFC 1350 section 4), for this client only.
func (s *Server) dial(ctx context.Context, client netip.AddrPort) (*net.UDPConn, error) {
	dialer := net.Dialer{LocalAddr: &net.UDPAddr{IP: s.Addr().Addr().AsSlice()}, Control: s.bind}
	conn, err := dialer.DialContext(ctx, "udp4", netip.AddrPortFrom(client.Addr().Unmap(), client.Port()).String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}

// finish says how a transfer ended.
func (s *Server) finish(t *transfer, name string, n int64, took time.Duration, err error) {
	client := t.client.Addr().Unmap()
	log := s.Log.With("client", client.String(), "file", name)
	_, byClient := errors.AsType[clientError](err)
	switch {
	case err == nil:
		log.Info("TFTP", "bytes", n, "seconds", took.Seconds())
		if s.Notify != nil {
			s.Notify(client, name, n, took)
		}
	case n == 0 && byClient:
		// A ROM first asks for the size and breaks off, then asks again.
		log.Debug("TFTP size asked", "err", err)
	case errors.Is(err, context.Canceled), errors.Is(err, errReplaced):
		log.Debug("TFTP transfer ended", "sent_bytes", n, "err", err)
	default:
		if ok, last := s.quiet.Allow(client.String()+" "+err.Error(), time.Now()); ok {
			log.Warn("TFTP transfer broken off", "sent_bytes", n, "err", err, "more_left_out", last)
		}
	}
}

// open opens a file of the directory by the name a boot ROM sent.
func (s *Server) open(name string) (*os.File, error) {
	file, err := s.Root.Open(cleanName(name))
	if err != nil {
		return nil, plain(err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a file")
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// plain is a file error without the path, which the client knows.
func plain(err error) error {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return pathErr.Err
	}
	return err
}

// isShortage tells whether the machine lacks something that comes back.
func isShortage(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM)
}
