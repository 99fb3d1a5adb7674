package installed_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edeploy/agent/internal/installed"
	"edeploy/images/manifest"
	"edeploy/integration/needs"
	"edeploy/server/wire"

	"github.com/gokrazy/rsync/rsyncd"
	"github.com/google/go-cmp/cmp"
)

// published makes a served directory with the manifest of one role.
func published(t *testing.T) (dir string, image wire.ImageRef, m *manifest.Manifest) {
	t.Helper()
	_, m = system(t)
	image, err := wire.NewImageRef("mysql", "D12-F.1.0.0")
	must(t, err)
	dir = t.TempDir()
	must(t, os.Chmod(dir, 0o755))
	var text bytes.Buffer
	_, err = m.WriteTo(&text)
	must(t, err)
	write(t, dir, image.Manifest(), text.String())
	return dir, image, m
}

func listen(t *testing.T) (net.Listener, int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return l, l.Addr().(*net.TCPAddr).Port
}

type quiet struct{ io.Writer }

func (quiet) Close() error { return nil }

func gokrazyDaemon(t *testing.T, dir string) int { return gokrazyModule(t, "install", dir) }

func gokrazyModule(t *testing.T, module, dir string) int {
	l, port := listen(t)
	server, err := rsyncd.NewServer([]rsyncd.Module{{Name: module, Path: dir}}, rsyncd.DontRestrict(), rsyncd.WithStderr(quiet{io.Discard}))
	must(t, err)
	go server.Serve(t.Context(), l)
	return port
}

func debianDaemon(t *testing.T, dir string) int { return debianModule(t, "install", dir) }

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

func TestFetch(t *testing.T) {
	for name, daemon := range map[string]func(*testing.T, string) int{"gokrazy": gokrazyDaemon, "Debian": debianDaemon} {
		t.Run(name, func(t *testing.T) {
			dir, image, want := published(t)
			conf := wire.Installed{Image: image, RServ: "127.0.0.1", RServPort: daemon(t, dir), RPath: "install"}
			got, err := installed.Fetch(t.Context(), conf)
			must(t, err)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("fetched manifest (-want +got):\n%s", diff)
			}
			conf.Image.Role = "other"
			if _, err := installed.Fetch(t.Context(), conf); err == nil || !strings.Contains(err.Error(), "other-D12-F.1.0.0.mtree: ") {
				t.Errorf("Fetch of a role that is not there = %v", err)
			} else {
				t.Log(err)
			}
			conf.RPath = "nomodule"
			if _, err := installed.Fetch(t.Context(), conf); err == nil || !strings.Contains(err.Error(), "the server refuses: ") {
				t.Errorf("Fetch from an unknown module = %v", err)
			} else {
				t.Log(err)
			}
		})
	}
}

func TestFetchFromStrangeServers(t *testing.T) {
	image := wire.ImageRef{Role: "r", Version: "v"}
	for name, answer := range map[string]string{
		"silent close": "", "http": "HTTP/1.1 400 Bad Request\r\n\r\n", "cut": "@RSYNCD: 27\n@RSYNCD: OK\n",
		"garbage": "@RSYNCD: 27\n@RSYNCD: OK\n" + strings.Repeat("\xff\x07", 4000),
	} {
		t.Run(name, func(t *testing.T) {
			l, port := listen(t)
			go func() {
				conn, err := l.Accept()
				if err == nil {
					fmt.Fprint(conn, answer)
					conn.(*net.TCPConn).CloseWrite()
					io.Copy(io.Discard, conn)
					conn.Close()
				}
			}()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, err := installed.Fetch(ctx, wire.Installed{Image: image, RServ: "127.0.0.1", RServPort: port, RPath: "install"})
			if err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "fetch rsync://127.0.0.1:") {
				t.Errorf("Fetch = %v (%v)", err, ctx.Err())
			}
			t.Log(err)
		})
	}
}
