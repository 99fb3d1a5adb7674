// Package content fetches the files of a role tree, and its manifest, over HTTP
// from the server that publishes them:
//
//	http://SERV:HTTP_PORT/install/VERSION/ROLE/PATH
//	http://SERV:HTTP_PORT/install/VERSION/ROLE-VERSION.mtree
//
// A server that goes away in the middle is waited for, and the file goes on
// where it stopped (Range, If-Range; RFC 9110 section 14). What arrived is not
// checked here: the caller knows the SHA-256 of what it asked for.
package content

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"sync/atomic"
	"time"

	"edeploy/images/manifest"
	"edeploy/server/wire"
)

// Defaults of a Server.
const (
	defaultPatience = 5 * time.Minute
	defaultSilence  = 30 * time.Second
	connections     = 4
)

// Config says where the trees are. Host must be set.
type Config struct {
	Host string // name or address
	Port int    // 0: 80

	// Patience is how long a server that does not answer is waited for,
	// counted anew whenever something came; 0: 5 min.
	Patience time.Duration

	// Silence is how long an open connection may bring nothing; 0: 30 s.
	Silence time.Duration

	// Pause is how long to wait before the second attempt; it doubles up to
	// 10 s. 0: 0.5 s.
	Pause time.Duration

	// Say is told, in one sentence, that the server is waited for and that it
	// is back. Calls do not overlap. Nil: nobody is.
	Say func(sentence string)
}

// Server is a server of role trees. It may be used by several goroutines at
// once; a fifth open file waits until another is closed.
type Server struct {
	config Config
	base   url.URL
	client *http.Client
	bytes  atomic.Int64
	waits  waits
	places chan struct{} // one for each open file
}

// New makes a Server; it connects when the first file is asked for.
func New(c Config) *Server {
	c.Port = cmp.Or(c.Port, 80)
	c.Patience = cmp.Or(c.Patience, defaultPatience)
	c.Silence = cmp.Or(c.Silence, defaultSilence)
	c.Pause = cmp.Or(c.Pause, time.Second/2)
	s := &Server{config: c, base: url.URL{Scheme: "http", Host: c.Host}, places: make(chan struct{}, connections)}
	if c.Port != 80 {
		s.base.Host = net.JoinHostPort(c.Host, strconv.Itoa(c.Port))
	}
	s.waits.say = c.Say
	dialer := net.Dialer{Timeout: 10 * time.Second, KeepAlive: 5 * time.Second}
	s.client = &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := dialer.DialContext(ctx, network, address)
				if err != nil {
					return nil, err
				}
				return &counted{conn, &s.bytes}, nil
			},
			MaxIdleConnsPerHost: connections, IdleConnTimeout: time.Minute,
			DisableCompression: true, // the size of a file is checked, and ranges count its own bytes
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return s
}

// Close ends idle connections.
func (s *Server) Close() { s.client.CloseIdleConnections() }

// Bytes is what has crossed the wire so far, in both directions: requests,
// headers and bodies.
func (s *Server) Bytes() int64 { return s.bytes.Load() }

// counted counts the bytes of a connection.
type counted struct {
	net.Conn
	bytes *atomic.Int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.bytes.Add(int64(n))
	return n, err
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.bytes.Add(int64(n))
	return n, err
}

// at is the URL of a path below /install/. The path's bytes are escaped one by
// one, whatever they are.
func (s *Server) at(name string) *url.URL {
	u := s.base
	u.Path = "/" + path.Join("install", name)
	return &u
}

// Tree is the tree of one image on the server.
func (s *Server) Tree(image wire.ImageRef) Tree { return Tree{s, image} }

// Tree opens the files of one image.
type Tree struct {
	server *Server
	image  wire.ImageRef
}

// Open asks for a file of the tree. Reading it goes on after an interruption
// as long as the server comes back in time.
func (t Tree) Open(ctx context.Context, e *manifest.Entry) (io.ReadCloser, error) {
	select {
	case t.server.places <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	f := &file{File: t.server.file(t.server.at(t.image.Tree()+"/"+e.Path), e.Size), server: t.server}
	f.Wait, f.Progress = t.server.waiting(ctx)
	err := f.File.Open(ctx)
	if errors.Is(err, errNoFile) {
		err = fmt.Errorf("%w: the tree of %s is not the one its manifest describes", err, t.image)
	}
	if err != nil {
		f.Close()
		return nil, named(f.URL, err)
	}
	return f, nil
}
