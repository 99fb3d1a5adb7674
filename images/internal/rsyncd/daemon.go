// Package rsyncd is the read-only rsync daemon of the appliance: the protocol
// of github.com/gokrazy/rsync behind bounds of transfers and time, and behind a
// guard that checks every byte a client sends before
// the library sees it.
package rsyncd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"edeploy/server/share"

	"github.com/gokrazy/rsync/rsyncd"
)

// Module is one directory that clients read under a name.
type Module struct {
	Name string
	Dir  string
}

// Config of a Daemon. Zero values are the defaults.
type Config struct {
	Modules        []Module
	MaxConnections int           // transfers at once; 0: 32. A peer has a quarter
	Wait           time.Duration // how long a connection waits for a free place; 0: 30 s
	Idle           time.Duration // longest silence of a client; 0: 5 min
	Greeting       time.Duration // within which a client says what module it wants; 0: 10 s, or Idle if it is less
	Logger         *slog.Logger  // nil: silent
}

// Daemon serves its modules.
type Daemon struct {
	cfg       Config
	transfers *share.Places[netip.Addr]
	files     budget // on the lists of all transfers
	sums      budget // blocks of which clients sent checksums, of all transfers
	roots     map[string]*os.Root
}

// What all transfers may have in memory: about 250 bytes for a file on a list,
// 50 for a block.
const (
	maxFiles = 640 << 10
	maxSums  = 1 << 20
)

// New opens the modules' directories, which must exist.
func New(cfg Config) (*Daemon, error) {
	cfg.MaxConnections = cmp.Or(cfg.MaxConnections, 32)
	cfg.Wait, cfg.Idle = cmp.Or(cfg.Wait, 30*time.Second), cmp.Or(cfg.Idle, 5*time.Minute)
	cfg.Greeting = cmp.Or(cfg.Greeting, min(10*time.Second, cfg.Idle))
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	d := &Daemon{cfg: cfg, transfers: share.New[netip.Addr](cfg.MaxConnections, 0), roots: map[string]*os.Root{},
		files: newBudget("files", maxFiles, cfg.Wait), sums: newBudget("checksums", maxSums, cfg.Wait)}
	for _, m := range cfg.Modules {
		root, err := os.OpenRoot(m.Dir)
		if err != nil {
			d.Close()
			return nil, fmt.Errorf("rsync module %s: %w", m.Name, err)
		}
		d.roots[m.Name] = root
	}
	return d, nil
}

// Close gives the directories back.
func (d *Daemon) Close() error {
	var errs []error
	for _, root := range d.roots {
		errs = append(errs, root.Close())
	}
	return errors.Join(errs...)
}

// Serve answers connections until ctx ends, then closes all of them and
// returns nil when the last handler is done. The listener bounds connections, and
// waits out failures to accept; an error of it ends Serve.
func (d *Daemon) Serve(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	var handlers sync.WaitGroup
	defer handlers.Wait()
	defer cancel()
	for {
		conn, err := ln.Accept()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept rsync connection: %w", err)
		}
		handlers.Go(func() {
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			defer stop()
			d.handle(ctx, conn)
		})
	}
}

// handle runs one connection and logs what became of it.
func (d *Daemon) handle(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	start := time.Now()
	s := newSession(conn, d)
	err := s.run(ctx)
	attrs := []any{"peer", conn.RemoteAddr().String(), "module", s.guard.module, "path", s.guard.paths,
		"bytes", s.wire.written, "seconds", time.Since(start).Seconds()}
	if err != nil {
		d.cfg.Logger.Warn("rsync", append(attrs, "err", err)...)
		linger(conn)
		return
	}
	d.cfg.Logger.Info("rsync", attrs...)
}

// linger lets the client read the last words: closing with unread input makes
// the kernel send a reset, upon which clients drop what they have not read yet.
func linger(conn net.Conn) {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	io.Copy(io.Discard, io.LimitReader(conn, 64<<20))
}

// session is one connection.
type session struct {
	daemon *Daemon
	wire   *wire
	guard  *guard
}

func newSession(conn net.Conn, d *Daemon) *session {
	w := newWire(conn, d.cfg.Idle)
	return &session{d, w, newGuard(w, d.files.open(), d.sums.open())}
}

// run hears what the client wants, waits for a place, and hands the connection
// to the library. A panic of the library ends this connection only: the
// transfer runs in this goroutine.
func (s *session) run(ctx context.Context) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("rsync library panic: %v\n%s", r, debug.Stack())
		}
	}()
	defer s.guard.close()
	if err := s.hello(); err != nil {
		s.wire.Flush()
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, s.daemon.cfg.Wait)
	defer cancel()
	release, err := s.daemon.transfers.Wait(waiting, share.Peer(s.wire.conn.RemoteAddr().String()))
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		// In the protocol's own words, which the client expects now.
		fmt.Fprintf(s.wire, "@ERROR: max connections (%v) reached -- try again later\n", err)
		return errors.Join(fmt.Errorf("no place within %v: %w", s.daemon.cfg.Wait, err), s.wire.Flush())
	}
	defer release()
	return s.serve(ctx)
}

// hello exchanges greetings and hears the module's name. Only then the
// connection gets a place.
func (s *session) hello() error {
	s.wire.until = time.Now().Add(s.daemon.cfg.Greeting)
	defer func() { s.wire.until = time.Time{} }()
	io.WriteString(s.wire, greeting)
	return s.guard.hello()
}

func (s *session) serve(ctx context.Context) error {
	var modules []rsyncd.Module
	for _, m := range s.daemon.cfg.Modules {
		view := newView(s.daemon.roots[m.Name], s.guard)
		defer view.Close()
		modules = append(modules, rsyncd.Module{Name: m.Name, FS: view})
	}
	// The library's own restriction drops to an unprivileged user, which cannot
	// read /etc/shadow of a tree; the view and its os.Root confine it instead.
	server, err := rsyncd.NewServer(modules, rsyncd.DontRestrict(),
		rsyncd.WithLogger(quiet{s.daemon.cfg.Logger}), rsyncd.WithStderr(discard{}))
	if err != nil {
		return err
	}
	s.wire.said = greeting
	conn := rsyncd.NewConnection(io.NopCloser(s.guard), s.wire, s.wire.conn.RemoteAddr().String())
	err = server.HandleDaemonConn(ctx, conn)
	if s.guard.refusal != nil {
		err = s.guard.refusal
	}
	if flushErr := s.wire.Flush(); err == nil {
		err = flushErr
	}
	return err
}

// quiet takes the library's log lines; they are of interest when debugging.
type quiet struct{ log *slog.Logger }

func (q quiet) Printf(format string, args ...any) {
	if q.log.Enabled(context.Background(), slog.LevelDebug) {
		q.log.Debug("rsync library", "message", fmt.Sprintf(format, args...))
	}
}

func (q quiet) Output(_ int, line string) error {
	q.log.Debug("rsync library", "message", line)
	return nil
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) Close() error                { return nil }
