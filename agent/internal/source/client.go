package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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

// Client fetches small things from the rsync server of an installed machine (RSERV,
// RSERV_PORT, RPATH), which needs no rsync program for that.
type Client struct{ wire.Installed }

// clientSilence is how long the server may say nothing.
const clientSilence = 30 * time.Second

// Manifest fetches the manifest of an image.
func (c Client) Manifest(ctx context.Context, image wire.ImageRef) (m *manifest.Manifest, err error) {
	if c.RServ == "" {
		return nil, fmt.Errorf("fetch manifest: %s names no server (RSERV)", wire.ConfPath)
	}
	dir, err := os.MkdirTemp("", "edeploy-fetch-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	what := Remote{path.Join(c.RPath, image.Manifest()), "-t", manifest.MaxTextBytes}
	return m, c.Fetch(ctx, what, dir, func() error {
		file := filepath.Join(dir, path.Base(what.Path))
		if _, err := os.Lstat(file); err != nil {
			return errors.New("the server has no such file")
		}
		m, err = manifest.ReadFile(file)
		return err
	})
}

// Remote is something on an rsync server.
type Remote struct {
	Path  string // from the module on
	Flags string // of rsync
	Limit int64  // bytes
}

// Fetch puts something into dir, then accept looks at what came.
func (c Client) Fetch(ctx context.Context, what Remote, dir string, accept func() error) error {
	address := net.JoinHostPort(c.RServ, strconv.Itoa(c.RServPort))
	err := c.receive(ctx, address, what, dir)
	if err == nil {
		err = accept()
	}
	if err != nil {
		return fmt.Errorf("fetch rsync://%s/%s: %w", address, what.Path, err)
	}
	return nil
}

// receive runs the rsync client on a connection of its own. The library says why a server refused only in its log, and panics on some
// broken answers.
func (c Client) receive(ctx context.Context, address string, what Remote, dir string) (err error) {
	conn, err := dial(ctx, address)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	var said transcript
	defer func() {
		if caught := recover(); caught != nil {
			err = fmt.Errorf("the server's answer is broken: %v", caught)
		}
	}()
	// Restricting the process would end its view of the disk it is to compare.
	client, err := rsyncclient.New([]string{what.Flags}, rsyncclient.WithStderr(&said), rsyncclient.DontRestrict())
	if err != nil {
		return err
	}
	if _, err = client.RunDaemon(ctx, &bounded{Conn: conn, limit: what.Limit}, what.Path, []string{dir}); ctx.Err() != nil {
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

// bounded is a connection that ends after clientSilence and after too many bytes.
type bounded struct {
	net.Conn
	limit int64
	read  int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.read >= b.limit {
		return 0, fmt.Errorf("the server sent more than the %d bytes that are taken", b.limit)
	}
	if err := b.SetReadDeadline(time.Now().Add(clientSilence)); err != nil {
		return 0, err
	}
	n, err := b.Conn.Read(p[:min(int64(len(p)), b.limit-b.read)])
	b.read += int64(n)
	return n, err
}

func (b *bounded) Write(p []byte) (int, error) {
	if err := b.SetWriteDeadline(time.Now().Add(clientSilence)); err != nil {
		return 0, err
	}
	return b.Conn.Write(p)
}
