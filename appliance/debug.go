package appliance

import (
	"context"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"
	"time"
)

// debugSocket is below the state directory. Only the user that runs edeployd
// can reach it.
const debugSocket = "debug/pprof.sock"

// openDebug opens the socket. Without it everything else works.
func (a *Appliance) openDebug(context.Context) error {
	var err error
	if a.debug, err = listenPrivately(filepath.Join(a.config.StateDir, debugSocket)); err != nil {
		a.log.Warn("no debugging socket", "err", err)
	}
	return nil
}

// serveDebug shows the stacks and the memory of the running process
// (net/http/pprof).
func (a *Appliance) serveDebug(ctx context.Context) error {
	if a.debug == nil {
		<-ctx.Done()
		return nil
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	s := &http.Server{Handler: mux, ReadHeaderTimeout: headers, IdleTimeout: time.Second}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.Serve(a.debug); ctx.Err() == nil {
		a.log.Warn("no debugging socket any more", "err", err)
		<-ctx.Done()
	}
	return nil
}

// listenPrivately makes a socket in a directory of its own that nobody else may
// enter. One that a killed process left is removed.
func listenPrivately(path string) (net.Listener, error) {
	dir := filepath.Dir(path)
	if err := os.Mkdir(dir, 0o700); err != nil && !os.IsExist(err) {
		return nil, err
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	return net.Listen("unix", path)
}
