// Package admission keeps one client of a TCP service from using up what all
// share: it bounds connections and requests, gives each peer a share of them,
// and ends what does not move.
package admission

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"edeploy/server/share"
)

// Listener accepts connections within bounds. Its Accept fails only when the
// listener is closed: whatever else the kernel says (no descriptors, no
// memory, a client that left) is waited out.
type Listener struct {
	*net.TCPListener
	Name    string // of the service, in messages
	Total   int    // connections at once; one more waits, and others in the kernel's queue
	PerPeer int    // of one address; more are refused
	Refusal string // said to a connection that is refused, in the service's own words
	// WriteBuffer bounds what the kernel keeps of an answer that is not read,
	// bytes; 0: the kernel's choice, which grows to several MB.
	WriteBuffer int
	Warn        func(format string, args ...any) // told when a bound is reached
	Log         *slog.Logger

	once   sync.Once
	bound  *Bound
	open   context.Context
	closed context.CancelFunc
}

func (l *Listener) init() {
	l.once.Do(func() {
		l.bound = NewBound(l.Name+" connections", l.Total, l.PerPeer, l.Warn)
		l.open, l.closed = context.WithCancel(context.Background())
	})
}

// pauses are the growing times to wait after an error of accept.
const (
	firstPause = 5 * time.Millisecond
	lastPause  = time.Second
)

// Accept waits for a connection, and until it has a place.
func (l *Listener) Accept() (net.Conn, error) {
	l.init()
	for {
		conn, err := l.acceptPatiently()
		if err != nil {
			return nil, err
		}
		leave, ok := l.admit(conn)
		if !ok {
			conn.Close()
			continue
		}
		if l.WriteBuffer > 0 {
			// Without it a client that does not read costs more memory, no more.
			_ = conn.SetWriteBuffer(l.WriteBuffer)
		}
		return &admitted{TCPConn: conn, leave: leave}, nil
	}
}

// admit refuses who has his share; when all places are taken it waits.
func (l *Listener) admit(conn *net.TCPConn) (leave func(), ok bool) {
	peer := share.Peer(conn.RemoteAddr().String())
	leave, err := l.bound.places.Try(peer)
	full, no := errors.AsType[*share.Full](err)
	if !no {
		return leave, true
	}
	_ = l.bound.used(full, peer) // the peer is told in the words of its protocol
	if full.OfPeer {
		// The few bytes fit into the empty buffer of a new connection.
		_, _ = conn.Write([]byte(l.Refusal))
		return nil, false
	}
	leave, err = l.bound.places.Wait(l.open, peer)
	return leave, err == nil
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
		case <-l.open.Done():
			return nil, net.ErrClosed
		case <-time.After(pause):
		}
		pause = min(2*pause, lastPause)
	}
}

// Close ends Accept.
func (l *Listener) Close() error {
	l.init()
	defer l.closed()
	return l.TCPListener.Close()
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
