// Package admission keeps one client of a TCP service from using up what all
// share: it bounds connections and requests, gives each peer a share of them,
// and ends what does not move.
package admission

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Listener accepts connections within bounds. Its Accept fails only when the
// listener is closed: whatever else the kernel says (no descriptors, no
// memory, a client that left) is waited out.
type Listener struct {
	*net.TCPListener
	Name    string // of the service, in messages
	Total   int    // connections at once; more wait in the kernel's queue
	PerPeer int    // of one address; more are refused
	Refusal string // said to a connection that is refused, in the service's own words
	// WriteBuffer bounds what the kernel keeps of an answer that is not read,
	// bytes; 0: the kernel's choice, which grows to several MB.
	WriteBuffer int
	Warn        func(format string, args ...any) // told when a bound is reached
	Log         *slog.Logger

	once   sync.Once
	places *Places
	closed chan struct{}
}

func (l *Listener) init() {
	l.once.Do(func() {
		l.places = NewPlaces(l.Name+" connections", l.Total, l.PerPeer, l.Warn)
		l.closed = make(chan struct{})
	})
}

// pauses are the growing times to wait after an error of accept.
const (
	firstPause = 5 * time.Millisecond
	lastPause  = time.Second
)

// Accept waits for a connection that has a place.
func (l *Listener) Accept() (net.Conn, error) {
	l.init()
	for {
		if !l.places.wait(l.closed) {
			return nil, net.ErrClosed
		}
		conn, err := l.acceptPatiently()
		if err != nil {
			return nil, err
		}
		leave, err := l.places.try(peerOf(conn.RemoteAddr()))
		if err != nil {
			l.refuse(conn)
			continue
		}
		if l.WriteBuffer > 0 {
			// Without it a client that does not read costs more memory, no more.
			_ = conn.SetWriteBuffer(l.WriteBuffer)
		}
		return &admitted{TCPConn: conn, leave: sync.OnceFunc(leave)}, nil
	}
}

// acceptPatiently repeats accept until it has a connection or the listener is
// closed. The first error of a row is said, and the end of the row.
func (l *Listener) acceptPatiently() (*net.TCPConn, error) {
	pause := firstPause
	for tries := 0; ; tries++ {
		conn, err := l.AcceptTCP()
		if err == nil {
			if tries > 0 {
				l.Log.Info("connections are accepted again", "service", l.Name)
			}
			return conn, nil
		}
		if errors.Is(err, net.ErrClosed) {
			return nil, err
		}
		if tries == 0 {
			l.Log.Error("accept waits", "service", l.Name, "err", err)
		}
		select {
		case <-l.closed:
			return nil, net.ErrClosed
		case <-time.After(pause):
		}
		pause = min(2*pause, lastPause)
	}
}

// refuse says why and closes. The few bytes fit into the empty buffer of a new
// connection, so this does not wait.
func (l *Listener) refuse(conn *net.TCPConn) {
	_, _ = conn.Write([]byte(l.Refusal)) // it is a courtesy
	conn.Close()
}

// Close ends Accept.
func (l *Listener) Close() error {
	l.init()
	err := l.TCPListener.Close()
	if err == nil {
		close(l.closed)
	}
	return err
}

// admitted is a connection that gives its place back when it is closed. It
// keeps the methods of TCPConn, with which the kernel copies files.
type admitted struct {
	*net.TCPConn
	leave func()
}

func (c *admitted) Close() error {
	defer c.leave()
	return c.TCPConn.Close()
}

// peerOf is the address whose share a connection takes: of IPv6 the network,
// from which a host may choose any address.
func peerOf(a net.Addr) netip.Addr {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return shareOf(tcp.AddrPort().Addr())
}

func shareOf(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		return netip.PrefixFrom(a, 64).Masked().Addr()
	}
	return a
}

// Peer is the address whose share a request takes; addr is its RemoteAddr.
func Peer(addr string) netip.Addr {
	a, err := netip.ParseAddrPort(addr)
	if err != nil {
		return netip.Addr{}
	}
	return shareOf(a.Addr())
}
