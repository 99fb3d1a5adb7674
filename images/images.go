// Package images keeps the role images of an appliance and gives them out:
// trees over rsync, archives and manifests over HTTP. Images come in by a
// resumable upload and are visible only when complete and verified.
//
// README.md is the manual page.
package images

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"

	"edeploy/images/internal/catalog"
	"edeploy/images/internal/rsyncd"
	"edeploy/server/share"

	"golang.org/x/sync/errgroup"
)

// Config of a Server. Dir and RsyncListener must be set.
type Config struct {
	Dir           string       // TOP: holds install/ and metadata/; made when missing
	RsyncListener net.Listener // of the rsync daemon; it bounds connections, and waits out failures to accept
	Logger        *slog.Logger // nil: silent
}

// Server is the image service.
type Server struct {
	cfg     Config
	log     *slog.Logger
	catalog *catalog.Catalog
	rsync   *rsyncd.Daemon

	static  map[string]*os.Root       // by the first element of the URL path
	uploads *share.Places[netip.Addr] // uploads at once
}

// maxUploads bounds the uploads that run at once; a quarter is for one peer.
const maxUploads = 8

// New opens the directory, cleans up after a crash, and makes the server.
func New(cfg Config) (*Server, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c, err := catalog.Open(cfg.Dir, cfg.Logger)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, log: cfg.Logger, catalog: c,
		static: map[string]*os.Root{}, uploads: share.New[netip.Addr](maxUploads, 0)}
	var modules []rsyncd.Module
	for _, name := range []string{catalog.InstallDir, catalog.MetadataDir} {
		root, err := os.OpenRoot(c.Dir(name))
		if err != nil {
			return nil, fmt.Errorf("serve images: %w", err)
		}
		s.static[name] = root
		modules = append(modules, rsyncd.Module{Name: name, Dir: c.Dir(name)})
	}
	s.rsync, err = rsyncd.New(rsyncd.Config{Modules: modules, Logger: cfg.Logger})
	return s, err
}

// Run serves rsync, and describes trees that have no manifest, until ctx ends
// or something fails. HTTP is the caller's: see Handler.
func (s *Server) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.rsync.Serve(ctx, s.cfg.RsyncListener) })
	g.Go(func() error {
		s.catalog.Tidy(ctx)
		s.catalog.Describe(ctx)
		return nil
	})
	return g.Wait()
}

// Handler serves /install/..., /metadata/... and /api/v1/images...
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serveHTTP) }
