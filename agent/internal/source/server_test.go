package source_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gokrazy/rsync/rsyncd"
)

func TestMain(m *testing.M) {
	if out, err := exec.Command("rsync", "--version").Output(); err == nil {
		fmt.Printf("peer: %s\n", bytes.SplitN(out, []byte("\n"), 2)[0])
	}
	os.Exit(m.Run())
}

// servers are the two rsync daemons that an agent meets.
var servers = map[string]func(t *testing.T, dir string) (address string){
	"rsync":         stockServer,
	"gokrazy/rsync": gokrazyServer,
}

// stockServer serves dir as module install with Debian's rsync, one process a
// connection, as inetd would.
func stockServer(t *testing.T, dir string) string {
	t.Helper()
	conf := filepath.Join(t.TempDir(), "rsyncd.conf")
	text := fmt.Sprintf("use chroot = no\nlog file = /dev/null\n[install]\npath = %s\nuid = %d\ngid = %d\n", dir, os.Getuid(), os.Getgid())
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return serve(t, func(ctx context.Context, conn net.Conn) {
		// Its standard input must be a socket: that is how it knows.
		f, err := conn.(*net.TCPConn).File()
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		cmd := exec.CommandContext(ctx, "rsync", "--daemon", "--config="+conf)
		cmd.Stdin, cmd.Stdout = f, f
		_ = cmd.Run() // clients that are cut off make it fail
	})
}

func gokrazyServer(t *testing.T, dir string) string {
	t.Helper()
	srv, err := rsyncd.NewServer([]rsyncd.Module{{Name: "install", Path: dir}}, rsyncd.DontRestrict(), rsyncd.WithLogger(silent{}))
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, func(ctx context.Context, conn net.Conn) {
		_ = srv.HandleDaemonConn(ctx, rsyncd.NewConnection(conn, conn, conn.RemoteAddr().String()))
	})
}

type silent struct{}

func (silent) Printf(string, ...any)    {}
func (silent) Output(int, string) error { return nil }

// serve accepts connections until the test ends.
func serve(t *testing.T, handle func(context.Context, net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			wg.Go(func() { defer stop(); defer conn.Close(); handle(ctx, conn) })
		}
	})
	t.Cleanup(func() { cancel(); l.Close(); wg.Wait() })
	return l.Addr().String()
}

// line is a line to a server that a test can cut.
type cutLine struct {
	server string
	conns  atomic.Int32
	// after decides about connection n (from 1): how many bytes of the server
	// pass, and whether the line then is cut or only dead; -1 is all.
	after func(n int) (bytes int64, dead bool)
}

func (w *cutLine) start(t *testing.T) string {
	return serve(t, func(ctx context.Context, conn net.Conn) {
		limit, dead := w.after(int(w.conns.Add(1)))
		up, err := net.Dial("tcp", w.server)
		if err != nil {
			return
		}
		defer up.Close()
		go func() { io.Copy(up, conn); up.Close() }()
		if limit < 0 {
			io.Copy(conn, up)
			return
		}
		io.CopyN(conn, up, limit)
		if dead {
			<-ctx.Done()
		}
	})
}
