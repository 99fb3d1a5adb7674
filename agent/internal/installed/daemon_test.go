package installed_test

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"edeploy/integration/needs"

	"github.com/gokrazy/rsync/rsyncd"
)

func listen(t *testing.T) (net.Listener, int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return l, l.Addr().(*net.TCPAddr).Port
}

type quiet struct{ io.Writer }

func (quiet) Close() error { return nil }

func gokrazyModule(t *testing.T, module, dir string) int {
	l, port := listen(t)
	server, err := rsyncd.NewServer([]rsyncd.Module{{Name: module, Path: dir}}, rsyncd.DontRestrict(), rsyncd.WithStderr(quiet{io.Discard}))
	must(t, err)
	go server.Serve(t.Context(), l)
	return port
}

func debianModule(t *testing.T, module, dir string) int {
	rsync := needs.Program(t, "rsync")
	conf := filepath.Join(t.TempDir(), "rsyncd.conf")
	must(t, os.WriteFile(conf, []byte("use chroot = no\n["+module+"]\npath = "+dir+"\n"), 0o644))
	l, port := listen(t)
	go func() { // each connection gets a daemon on its socket, as inetd does it
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			f, err := conn.(*net.TCPConn).File()
			conn.Close()
			if err != nil {
				return
			}
			c := exec.Command(rsync, "--daemon", "--config="+conf)
			c.Stdin, c.Stdout = f, f
			c.Run()
			f.Close()
		}
	}()
	return port
}
