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
	"edeploy/appliance/internal/nic"
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
	web     net.Listener
	rsync   net.Listener
	server  *server.Server
	images  *images.Server
	boot    *pxe.Server // nil when [DHCP] ENABLED = no
	ready   chan struct{}
}

// New configures the network device if it is told to, opens the TCP sockets
// and makes the services. Directories that do not exist are made.
func New(ctx context.Context, c Config, log *slog.Logger) (*Appliance, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	a := &Appliance{config: c, log: log, console: console.New(time.Now), ready: make(chan struct{})}
	for _, step := range []func(context.Context) error{
		a.makeDirectories, a.configureNetwork, a.listen, a.makeServer, a.makeImages, a.makeBoot,
	} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, a.closeSockets())
		}
	}
	return a, nil
}

func (a *Appliance) makeDirectories(context.Context) error {
	c := a.config
	dirs := []string{c.StateDir}
	for _, d := range c.Deployments {
		dirs = append(dirs, d.ConfigDir, d.HWDir, d.LogDir, d.HealthDir, filepath.Dir(d.LockFile))
	}
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}
	return nil
}

func (a *Appliance) configureNetwork(ctx context.Context) error {
	n := a.config.Interface
	if !n.Configure {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return nic.Configure(ctx, n.Name, n.Address)
}

// listen opens the TCP sockets, on the provisioning device only.
func (a *Appliance) listen(ctx context.Context) error {
	host := a.config.Interface.Address.Addr()
	var err error
	if a.web, err = nic.Listen(ctx, a.config.Interface.Name, netip.AddrPortFrom(host, uint16(a.config.HTTPPort))); err != nil {
		return err
	}
	a.rsync, err = nic.Listen(ctx, a.config.Interface.Name, netip.AddrPortFrom(host, uint16(a.config.RsyncPort)))
	return err
}

func (a *Appliance) closeSockets() error {
	var errs []error
	for _, l := range []net.Listener{a.web, a.rsync} {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	return errors.Join(errs...)
}

// Ready is closed when every service answers.
func (a *Appliance) Ready() <-chan struct{} { return a.ready }

// Run serves until ctx ends or a service fails; the first error ends all.
// Screen gets lines for a person: version, addresses, every machine's
// progress.
func (a *Appliance) Run(ctx context.Context, screen io.Writer) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.console.Run(ctx, screen) })
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
		{"images", a.images.Run, a.images.Ready()},
		{"http", func(ctx context.Context) error { return a.serveHTTP(ctx, a.web) }, up},
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
	if a.boot != nil {
		a.console.Printf("DHCP %s-%s on %s (%s)", a.config.DHCP.First, a.config.DHCP.Last, a.config.Interface.Name, a.config.Interface.Address)
	}
	a.log.Info("ready", "version", wire.Release(), "address", host.String())
	return nil
}

// Handler is every room's HTTP behind one port.
func (a *Appliance) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.room(r.URL.Path).ServeHTTP(w, r)
	})
}

// room picks by prefix. It is no ServeMux: the original's agents ask for
// "//cgi-bin//upload.py" and follow no redirects.
func (a *Appliance) room(path string) http.Handler {
	for _, prefix := range []string{"/install/", "/metadata/", "/api/v1/images"} {
		if strings.HasPrefix(path, prefix) {
			return a.images.Handler()
		}
	}
	if a.boot != nil && strings.HasPrefix(path, "/boot/") {
		return a.boot.Handler()
	}
	return a.server.Handler()
}

func (a *Appliance) serveHTTP(ctx context.Context, l net.Listener) error {
	s := &http.Server{
		Handler:           a.Handler(),
		ReadHeaderTimeout: 20 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(a.log.Handler(), slog.LevelWarn),
	}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.Serve(l); ctx.Err() == nil {
		return err
	}
	return nil
}
