package source_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"edeploy/agent/internal/source"
	"edeploy/images/manifest"
	"edeploy/integration/needs"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

func port(t *testing.T, address string) int {
	t.Helper()
	_, text, err := net.SplitHostPort(address)
	must(t, err)
	n, err := strconv.Atoi(text)
	must(t, err)
	return n
}

func TestClient(t *testing.T) {
	for name, daemon := range servers {
		t.Run(name, func(t *testing.T) {
			needs.Program(t, "rsync")
			dir, image := t.TempDir(), wire.ImageRef{Role: "mysql", Version: "D12-F.1.0.0"}
			want, err := manifest.Read(strings.NewReader("#mtree\n. type=dir mode=0755 uid=0 gid=0 time=7.0\n./a type=link link=b mode=0777 uid=0 gid=0 time=8.0\n"))
			must(t, err)
			file := filepath.Join(dir, image.Manifest())
			must(t, os.MkdirAll(filepath.Dir(file), 0o755))
			f, err := os.Create(file)
			must(t, err)
			_, err = want.WriteTo(f)
			must(t, errors.Join(err, f.Close(), os.Chmod(dir, 0o755)))
			conf := wire.Installed{RServ: "127.0.0.1", RServPort: port(t, daemon(t, dir)), RPath: "install"}
			got, err := source.Client{Installed: conf}.Manifest(t.Context(), image)
			must(t, err)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("fetched manifest (-want +got):\n%s", diff)
			}
			image.Role = "other"
			if _, err := (source.Client{Installed: conf}).Manifest(t.Context(), image); err == nil || !strings.Contains(err.Error(), "other-D12-F.1.0.0.mtree: ") {
				t.Errorf("Fetch of a role that is not there = %v", err)
			} else {
				t.Log(err)
			}
			conf.RPath = "nomodule"
			if _, err := (source.Client{Installed: conf}).Manifest(t.Context(), image); err == nil || !strings.Contains(err.Error(), "the server refuses: ") {
				t.Errorf("Fetch from an unknown module = %v", err)
			} else {
				t.Log(err)
			}
		})
	}
}

func TestClientOfStrangeServers(t *testing.T) {
	image := wire.ImageRef{Role: "r", Version: "v"}
	for name, answer := range map[string]string{
		"silent close": "", "http": "HTTP/1.1 400 Bad Request\r\n\r\n", "cut": "@RSYNCD: 27\n@RSYNCD: OK\n",
		"garbage": "@RSYNCD: 27\n@RSYNCD: OK\n" + strings.Repeat("\xff\x07", 4000),
	} {
		t.Run(name, func(t *testing.T) {
			server := serve(t, func(_ context.Context, conn net.Conn) {
				fmt.Fprint(conn, answer)
				conn.(*net.TCPConn).CloseWrite()
				io.Copy(io.Discard, conn)
			})
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, err := source.Client{Installed: wire.Installed{RServ: "127.0.0.1", RServPort: port(t, server), RPath: "install"}}.Manifest(ctx, image)
			if err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "fetch rsync://127.0.0.1:") {
				t.Errorf("Fetch = %v (%v)", err, ctx.Err())
			}
			t.Log(err)
		})
	}
}
