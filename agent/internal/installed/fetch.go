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
	dir, err := os.MkdirTemp("", "edeploy-fetch-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	var m *manifest.Manifest
	remote := source{conf, path.Join(conf.RPath, conf.Image.Manifest()), "-t", manifest.MaxTextBytes}
	return m, remote.fetch(ctx, dir, func() error {
		file := filepath.Join(dir, path.Base(remote.path))
		if _, err := os.Lstat(file); err != nil {
			return errors.New("the server has no such file")
		}
		m, err = manifest.ReadFile(file)
		return err
	})
}

type source struct {
	conf  wire.Installed
	path  string // from the module on
	flags string // of rsync
	limit int64  // bytes
}

// fetch puts the source into dir, then accept looks at what came.
func (s source) fetch(ctx context.Context, dir string, accept func() error) error {
	address := net.JoinHostPort(s.conf.RServ, strconv.Itoa(s.conf.RServPort))
	err := s.dial(ctx, address, dir)
	if err == nil {
		err = accept()
	}
	if err != nil {
		return fmt.Errorf("fetch rsync://%s/%s: %w", address, s.path, err)
	}
	return nil
}

func (s source) dial(ctx context.Context, address, dir string) error {
	dialer := net.Dialer{Timeout: silence}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	return s.receive(ctx, &bounded{Conn: conn, limit: s.limit}, dir)
}

// receive runs the rsync client on a connection; dir gets the files. The
// library says why a server refused only in its log, and panics on some
// broken answers.
func (s source) receive(ctx context.Context, conn io.ReadWriteCloser, dir string) (err error) {
	var said transcript
	defer func() {
		if caught := recover(); caught != nil {
			err = fmt.Errorf("the server's answer is broken: %v", caught)
		}
	}()
	// Restricting the process would end its view of the disk it is to compare.
	client, err := rsyncclient.New([]string{s.flags}, rsyncclient.WithStderr(&said), rsyncclient.DontRestrict())
	if err != nil {
		return err
	}
	if _, err = client.RunDaemon(ctx, conn, s.path, []string{dir}); ctx.Err() != nil {
		return ctx.Err()
	}
	if reason := said.refusal(); reason != "" {
		return errors.New(reason)
	}
	if err != nil {
		return errors.New(strings.TrimSpace(err.Error()))
	}
	return nil
}

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
	limit int64
	read  int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.read >= b.limit {
		return 0, fmt.Errorf("the server sent more than the %d bytes that are taken", b.limit)
	}
	if err := b.SetReadDeadline(time.Now().Add(silence)); err != nil {
		return 0, err
	}
	n, err := b.Conn.Read(p[:min(int64(len(p)), b.limit-b.read)])
	b.read += int64(n)
	return n, err
}

func (b *bounded) Write(p []byte) (int, error) {
	if err := b.SetWriteDeadline(time.Now().Add(silence)); err != nil {
		return 0, err
	}
	return b.Conn.Write(p)
}
