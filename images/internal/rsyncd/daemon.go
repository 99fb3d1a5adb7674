// Package rsyncd is the read-only rsync daemon of the appliance: the protocol
// of github.com/gokrazy/rsync behind an accept loop that bounds connections
// and time, and behind a guard that checks every byte a client sends before
// the library sees it.
package rsyncd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"

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
	MaxConnections int           // transfers at once; 0: 32. As many again may wait
	Wait           time.Duration // how long a connection waits for a free place; 0: 30 s
	Idle           time.Duration // longest silence of a client; 0: 5 min
	Logger         *slog.Logger  // nil: silent
}

// Daemon serves its modules.
type Daemon struct {
	cfg    Config
	places chan struct{}
	roots  map[string]*os.Root
}

// New opens the modules' directories, which must exist.
func New(cfg Config) (*Daemon, error) {
	if cfg.MaxConnections <= 0 {
		cfg.MaxConnections = 32
	}
	if cfg.Wait <= 0 {
		cfg.Wait = 30 * time.Second
	}
	if cfg.Idle <= 0 {
		cfg.Idle = 5 * time.Minute
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	d := &Daemon{cfg: cfg, places: make(chan struct{}, cfg.MaxConnections), roots: map[string]*os.Root{}}
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
// returns nil when the last handler is done. Any other end is an error.
func (d *Daemon) Serve(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	context.AfterFunc(ctx, func() { ln.Close() })
	var handlers sync.WaitGroup
	defer handlers.Wait()
	defer cancel()
	// The bound on accepted connections; further ones stay in the kernel's queue.
	accepted := make(chan struct{}, 2*d.cfg.MaxConnections)
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
		select {
		case accepted <- struct{}{}:
		case <-ctx.Done():
			conn.Close()
			return nil
		}
		handlers.Go(func() {
			defer func() { <-accepted }()
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
	return &session{d, w, newGuard(w)}
}

// run waits for a place and hands the connection to the library. A panic of
// the library ends this connection only: the transfer runs in this goroutine.
func (s *session) run(ctx context.Context) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("rsync library panic: %v\n%s", r, debug.Stack())
		}
	}()
	timeout := time.NewTimer(s.daemon.cfg.Wait)
	defer timeout.Stop()
	select {
	case s.daemon.places <- struct{}{}:
		defer func() { <-s.daemon.places }()
	case <-ctx.Done():
		return ctx.Err()
	case <-timeout.C:
		return s.refuseBusy()
	}
	return s.serve(ctx)
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

// refuseBusy says in the protocol's own words that all places are taken: the
// client reads an error only after greeting and module name.
func (s *session) refuseBusy() error {
	fmt.Fprintf(s.wire, "@RSYNCD: %d\n", protocol)
	var request [maxLine]byte
	for range 2 {
		if _, err := s.guard.Read(request[:]); err != nil {
			return err
		}
	}
	fmt.Fprintf(s.wire, "@ERROR: max connections (%d) reached -- try again later\n", s.daemon.cfg.MaxConnections)
	s.wire.Flush()
	return fmt.Errorf("all %d connections are in use", s.daemon.cfg.MaxConnections)
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
