// Package appliance is the only code that knows all rooms: it reads one
// configuration, makes the boot services, the server and the image store of
// it, connects them, and runs them until one ends.
//
// It reads edeploy.conf (edeploy.conf.example explains every key) and keeps
// everything else in the directories that file names.
package appliance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"edeploy/appliance/internal/console"
	"edeploy/images"
	"edeploy/pxe"
	"edeploy/server"
	"edeploy/server/wire"
)

// Appliance is the assembled services.
type Appliance struct {
	config  Config
	log     *slog.Logger
	console *console.Console
	sockets Sockets
	server  *server.Server
	images  *images.Server
	boot    *pxe.Server // nil when [DHCP] ENABLED = no
	handler http.Handler
	debug   net.Listener // nil: none
	ready   chan struct{}
}

// New makes the services around sockets that Listen has opened. Directories
// that do not exist are made. The sockets are closed when Run ends.
func New(ctx context.Context, c Config, sockets Sockets, log *slog.Logger) (*Appliance, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	a := &Appliance{config: c, log: log, console: console.New(time.Now), sockets: sockets, ready: make(chan struct{})}
	for _, step := range []func(context.Context) error{a.takeDevice, a.makeDirectories, a.makeServer, a.makeImages, a.makeBoot, a.openDebug} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, sockets.Close())
		}
	}
	a.handler = newFront(c.Interface.Address.Addr(), c.HTTPNames, a.rooms(), a.warn)
	return a, nil
}

func (a *Appliance) makeDirectories(context.Context) error {
	c := a.config
	dirs := []string{c.StateDir}
	for _, d := range c.Deployments {
		dirs = append(dirs, d.ConfigDir, d.HWDir, d.LogDir, filepath.Dir(d.LockFile))
	}
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}
	return nil
}

// warn tells the operator that a bound is reached.
func (a *Appliance) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	a.console.Printf("%s", text)
	a.log.Warn("bound reached", "text", text)
	a.server.BoundReached(text)
}

// Ready is closed when every service answers.
func (a *Appliance) Ready() <-chan struct{} { return a.ready }

// Quiet tells, once Ready, whether DHCP is not answered because another server
// answers on the network. It may change.
func (a *Appliance) Quiet() bool { return a.boot != nil && a.boot.Quiet() != "" }

// Run serves until ctx ends or a service fails; the first error ends all.
// Screen gets lines for a person: version, addresses, every machine's
// progress.
func (a *Appliance) Run(ctx context.Context, screen io.Writer) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.console.Run(ctx, screen) })
	group.Go(func() error { return a.showProgress(ctx) })
	services := a.services()
	for _, s := range services {
		group.Go(func() error {
			err := s.run(ctx)
			if err == nil && ctx.Err() == nil {
				err = errors.New("ended by itself")
			}
			if err != nil {
				a.console.Printf("%s: %v", s.name, err)
				return fmt.Errorf("%s: %w", s.name, err)
			}
			return nil
		})
	}
	group.Go(func() error { return a.announce(ctx, services) })
	return group.Wait()
}

// service is one thing that runs until the end.
type service struct {
	name  string
	run   func(context.Context) error
	ready <-chan struct{}
}

func (a *Appliance) services() []service {
	up := make(chan struct{})
	close(up)
	all := []service{
		{"server", a.server.Run, a.server.Ready()},
		{"images", a.images.Run, up},
		{"http", a.serveHTTP, up},
		{"network device", a.watchDevice, up},
		{"debugging", a.serveDebug, up},
	}
	if a.boot != nil {
		all = append(all, service{"boot", a.boot.Run, a.boot.Ready()})
	}
	return all
}

// announce says on the console that everything answers, and where.
func (a *Appliance) announce(ctx context.Context, services []service) error {
	for _, s := range services {
		select {
		case <-s.ready:
		case <-ctx.Done():
			return nil
		}
	}
	close(a.ready)
	host := a.config.Interface.Address.Addr()
	a.console.Printf("edeploy %s ready: http://%s rsync://%s", wire.Release(),
		netip.AddrPortFrom(host, uint16(a.config.HTTPPort)), netip.AddrPortFrom(host, uint16(a.config.RsyncPort)))
	if a.boot != nil && !a.Quiet() {
		a.console.Printf("%s on %s (%s)", a.config.DHCP.what(), a.config.Interface.Name, a.config.Interface.Address)
	}
	a.log.Info("ready", "version", wire.Release(), "address", host.String())
	return nil
}

// Handler is every room's HTTP behind one port.
func (a *Appliance) Handler() http.Handler { return a.handler }

// rooms picks a room's handler by the prefix of a clean path. The handlers are
// made once.
func (a *Appliance) rooms() func(path string) http.Handler {
	images, server := a.images.Handler(), a.server.Handler()
	boot := server
	if a.boot != nil {
		boot = a.boot.Handler()
	}
	return func(path string) http.Handler {
		switch {
		case below(path, "/install"), below(path, "/metadata"), below(path, "/api/v1/images"):
			return images
		case below(path, "/boot"), below(path, "/grub"):
			return boot
		}
		return server
	}
}

// below says whether a path is top, or in it.
func below(path, top string) bool {
	rest, ok := strings.CutPrefix(path, top)
	return ok && (rest == "" || rest[0] == '/')
}

// headers and idle are how long a connection may take for a request's header,
// and how long it may wait for the next request.
const (
	headers = 10 * time.Second
	idle    = time.Minute
)

func (a *Appliance) serveHTTP(ctx context.Context) error {
	s := &http.Server{
		Handler:           a.handler,
		ReadHeaderTimeout: headers,
		// For the answers that the server gives by itself; the front sets further
		// limits for its own.
		WriteTimeout:   headers,
		IdleTimeout:    idle,
		MaxHeaderBytes: 32 << 10,
		ErrorLog:       slog.NewLogLogger(a.log.Handler(), slog.LevelWarn),
	}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.Serve(a.httpListener()); ctx.Err() == nil {
		return err
	}
	return nil
}
