package installed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"edeploy/images/manifest"
	"edeploy/server/wire"

	"github.com/gokrazy/rsync/rsyncclient"
)

// silence is how long the server may say nothing.
const silence = 30 * time.Second

// Fetch gets the manifest of the machine's role and version from its rsync
// server (RSERV, RSERV_PORT, RPATH).
func Fetch(ctx context.Context, conf wire.Installed) (*manifest.Manifest, error) {
	if conf.RServ == "" {
		return nil, fmt.Errorf("fetch manifest: %s names no server (RSERV)", wire.ConfPath)
	}
	address := net.JoinHostPort(conf.RServ, strconv.Itoa(conf.RServPort))
	remote := path.Join(conf.RPath, conf.Image.Manifest())
	m, err := fetch(ctx, address, remote)
	if err != nil {
		return nil, fmt.Errorf("fetch rsync://%s/%s: %w", address, remote, err)
	}
	return m, nil
}

func fetch(ctx context.Context, address, remote string) (*manifest.Manifest, error) {
	dir, err := os.MkdirTemp("", "edeploy-fetch-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	dialer := net.Dialer{Timeout: silence}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := receive(ctx, &bounded{conn, manifest.MaxTextBytes}, remote, dir); err != nil {
		return nil, err
	}
	return ReadManifest(filepath.Join(dir, path.Base(remote)))
}

// receive runs the rsync client on a connection; dir gets the file. The
// library says why a server refused only in its log, and panics on some
// broken answers.
func receive(ctx context.Context, conn io.ReadWriteCloser, remote, dir string) (err error) {
	var said transcript
	defer func() {
		if caught := recover(); caught != nil {
			err = fmt.Errorf("the server's answer is broken: %v", caught)
		}
	}()
	// Restricting the process would end its view of the disk it is to compare.
	client, err := rsyncclient.New([]string{"-t"}, rsyncclient.WithStderr(&said), rsyncclient.DontRestrict())
	if err != nil {
		return err
	}
	if _, err = client.RunDaemon(ctx, conn, remote, []string{dir}); ctx.Err() != nil {
		return ctx.Err()
	}
	if reason := said.refusal(); reason != "" {
		return errors.New(reason)
	}
	if err != nil {
		return errors.New(strings.TrimSpace(err.Error()))
	}
	if _, err := os.Lstat(filepath.Join(dir, path.Base(remote))); err != nil {
		return errors.New("the server has no such file")
	}
	return nil
}

// transcript keeps what the client library logs.
type transcript struct{ bytes.Buffer }

func (*transcript) Close() error { return nil }

// refusal is the server's own sentence, when it sent one.
func (t *transcript) refusal() string {
	for line := range strings.Lines(t.String()) {
		if _, reason, ok := strings.Cut(line, "@ERROR"); ok {
			return "the server refuses: " + strings.TrimSpace(strings.TrimLeft(reason, ": "))
		}
	}
	return ""
}

// bounded is a connection that ends after silence and after too many bytes.
type bounded struct {
	net.Conn
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("the server sent more than %d bytes", manifest.MaxTextBytes)
	}
	if err := b.SetReadDeadline(time.Now().Add(silence)); err != nil {
		return 0, err
	}
	n, err := b.Conn.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

func (b *bounded) Write(p []byte) (int, error) {
	if err := b.SetWriteDeadline(time.Now().Add(silence)); err != nil {
		return 0, err
	}
	return b.Conn.Write(p)
}
