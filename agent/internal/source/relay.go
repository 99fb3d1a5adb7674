package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A dead wire is noticed by the kernel's keep-alive probes (8 s of silence,
// then every 4 s) after deadWire, whatever rsync is doing. A server that is
// alive and says nothing is given Transfer.Silence.
const (
	dialTime = 10 * time.Second
	deadWire = 20 * time.Second
)

var errSilent = errors.New("said nothing")

// relay passes one rsync's connections on to the server. It is what rsync
// itself cannot be asked for when the peer is gokrazy/rsync: counting the
// bytes as they come, and ending a connection that has died (--info=progress2
// and --timeout are refused there).
type relay struct {
	listener net.Listener
	server   string        // host:port
	silence  time.Duration // longest silence of the server
	limit    int64         // most bytes of one connection; 0 is no limit
	bytes    *atomic.Int64 // from the server, all connections together

	mu  sync.Mutex
	err error // why the last connection ended early
}

// newRelay listens on loopback; run must be called.
func newRelay(server string, silence time.Duration, limit int64, bytes *atomic.Int64) (*relay, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for rsync on loopback: %w", err)
	}
	return &relay{listener: l, server: server, silence: silence, limit: limit, bytes: bytes}, nil
}

func (r *relay) address() string { return r.listener.Addr().String() }

func (r *relay) run(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { r.listener.Close() })
	defer stop()
	var connections sync.WaitGroup
	defer connections.Wait()
	for {
		conn, err := r.listener.Accept()
		if err != nil {
			return
		}
		connections.Go(func() {
			defer conn.Close()
			if err := r.pass(ctx, conn); err != nil {
				r.mu.Lock()
				r.err = err
				r.mu.Unlock()
			}
		})
	}
}

// ended is why the last connection ended early; nil when it did not.
func (r *relay) ended() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

func (r *relay) pass(ctx context.Context, client net.Conn) error {
	server, err := dial(ctx, r.server)
	if err != nil {
		return err
	}
	defer server.Close()
	// Closing both ends is how each direction ends the other.
	stop := context.AfterFunc(ctx, func() { server.Close(); client.Close() })
	defer stop()
	var up sync.WaitGroup
	up.Go(func() {
		_, _ = io.Copy(server, client)
		server.Close()
	})
	err = r.down(client, server)
	client.Close()
	up.Wait()
	return err
}

// down copies from the server to rsync. Only the silence of the server counts
// as a silence: while rsync writes to a slow disk, nothing is read.
func (r *relay) down(client io.Writer, server net.Conn) error {
	buf := make([]byte, 256<<10)
	var total int64
	for {
		if err := server.SetReadDeadline(time.Now().Add(r.silence)); err != nil {
			return nil // closed by the other direction: rsync ended
		}
		n, err := server.Read(buf)
		total += int64(n)
		r.bytes.Add(int64(n))
		if r.limit > 0 && total > r.limit {
			return fmt.Errorf("%s %w %d bytes", r.server, errTooMuch, r.limit)
		}
		if n > 0 {
			if _, err := client.Write(buf[:n]); err != nil {
				return nil
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), errors.Is(err, syscall.ECONNRESET):
			return nil // rsync says what it has not got
		case errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("%s %w for %s", r.server, errSilent, r.silence)
		default:
			return err
		}
	}
}

// dial connects so that a cut wire is noticed within deadWire.
func dial(ctx context.Context, server string) (net.Conn, error) {
	d := net.Dialer{
		Timeout:         dialTime,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 8 * time.Second, Interval: 4 * time.Second, Count: 3},
		Control: func(_, _ string, c syscall.RawConn) error {
			var err error
			ctl := c.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(deadWire.Milliseconds()))
			})
			return errors.Join(ctl, err)
		},
	}
	return d.DialContext(ctx, "tcp", server)
}
