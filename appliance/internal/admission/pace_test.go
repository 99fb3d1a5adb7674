package admission_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"edeploy/appliance/internal/admission"
)

// paced runs a handler behind a pace.
func paced(pace admission.Pace, h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e := admission.NewExchange(w, r, pace)
		defer e.End()
		if e.HasBody() {
			r.Body = e
			if err := e.Begin(); err != nil {
				http.Error(e, err.Error(), http.StatusRequestTimeout)
				return
			}
		}
		h(e, r)
	})
}

// pipe is a listener of one connection, whose time is that of the test's bubble.
type pipe struct {
	server chan net.Conn
	once   sync.Once
}

func (p *pipe) Accept() (net.Conn, error) {
	if c, ok := <-p.server; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (p *pipe) Close() error   { p.once.Do(func() { close(p.server) }); return nil }
func (p *pipe) Addr() net.Addr { return &net.UnixAddr{} }

// post sends a body of n bytes, part bytes at a time with a pause before each,
// to a handler at the default pace. It answers the status, 0 when the connection
// was ended.
func post(t *testing.T, h http.HandlerFunc, n, part int, between time.Duration) (status int) {
	synctest.Test(t, func(t *testing.T) {
		l := &pipe{server: make(chan net.Conn, 1)}
		c, server := net.Pipe()
		l.server <- server
		s := &http.Server{Handler: paced(admission.DefaultPace, h)}
		go s.Serve(l)
		var client sync.WaitGroup
		defer client.Wait()
		defer s.Close()
		defer c.Close()
		client.Go(func() {
			fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", n)
			for sent := 0; sent < n; sent += part {
				time.Sleep(between)
				if _, err := c.Write(make([]byte, min(part, n-sent))); err != nil {
					return
				}
			}
		})
		if res, err := http.ReadResponse(bufio.NewReader(c), nil); err == nil {
			status = res.StatusCode
		}
	})
	return status
}

func TestPaceOfABody(t *testing.T) {
	read := func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); errors.Is(err, os.ErrDeadlineExceeded) {
			http.Error(w, err.Error(), http.StatusRequestTimeout)
		}
	}
	for _, test := range []struct {
		name    string
		n, part int
		between time.Duration
		want    int
	}{
		{"at once", 1 << 20, 1 << 20, 0, 200},
		{"slow and honest", 1 << 20, 8 << 10, 3500 * time.Millisecond, 200}, // 2.3 KB a second
		{"slower", 1 << 20, 8 << 10, 4 * time.Second, 408},
		{"small and late", 10, 10, 9 * time.Second, 200},
		{"silent", 10, 10, 11 * time.Second, 408},
		{"trickling", 100, 1, time.Second, 408},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := post(t, read, test.n, test.part, test.between); got != test.want {
				t.Errorf("status %d, want %d", got, test.want)
			}
		})
	}
}

// A handler that works longer than any window with what it has read keeps its
// client; so does one that takes its time between two reads.
func TestLongWork(t *testing.T) {
	got := post(t, func(w http.ResponseWriter, r *http.Request) {
		io.CopyN(io.Discard, r.Body, 5)
		time.Sleep(2 * admission.DefaultPace.Window)
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			http.Error(w, err.Error(), 400)
		}
		time.Sleep(2 * admission.DefaultPace.Window)
		if r.Context().Err() != nil {
			http.Error(w, "the client is taken for gone", 500)
		}
	}, 10, 10, 0)
	if got != 200 {
		t.Errorf("status %d, want 200", got)
	}
}

// A handler's own limit counts, too.
func TestHandlersLimit(t *testing.T) {
	got := post(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).SetReadDeadline(time.Now().Add(time.Second))
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusRequestTimeout)
		}
	}, 100<<10, 8<<10, 600*time.Millisecond)
	if got != 408 {
		t.Errorf("status %d, want 408", got)
	}
}

// Answers that are not read end; those that are read slowly do not.
func TestPaceOfAnAnswer(t *testing.T) {
	// Quick, for the kernel's time does not pass faster, with room for a busy machine.
	pace := admission.Pace{Greeting: 3 * time.Second, Window: 3 * time.Second, Bytes: 4 << 10}
	const size = 16 << 20
	want := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, want, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, send := range map[string]func(w http.ResponseWriter, r *http.Request) error{
		"file":   func(w http.ResponseWriter, r *http.Request) error { http.ServeFile(w, r, file); return nil },
		"memory": func(w http.ResponseWriter, r *http.Request) error { _, err := w.Write(want); return err },
		"copy": func(w http.ResponseWriter, r *http.Request) error {
			_, err := io.Copy(w, bytes.NewReader(want))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ended := make(chan error, 1)
			s := httptest.NewServer(paced(pace, func(w http.ResponseWriter, r *http.Request) { ended <- send(w, r) }))
			t.Cleanup(s.Close)
			addr := s.Listener.Addr().String()
			res, err := http.Get("http://" + addr)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			got, err := io.ReadAll(res.Body)
			if !bytes.Equal(got, want) || err != nil {
				t.Errorf("got %d bytes, %v; want %d", len(got), err, len(want))
			}
			<-ended

			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			began := time.Now()
			select {
			case <-ended:
			case <-time.After(30 * time.Second):
				t.Fatal("a client that does not read is served for ever")
			}
			if took := time.Since(began); took < pace.Window/2 {
				t.Errorf("ended after %v already", took)
			}
		})
	}
}
