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
	"testing"
	"time"

	"edeploy/appliance/internal/admission"
)

// pace is quick, for tests, and leaves a busy machine room.
var pace = admission.Pace{Greeting: time.Second, Window: time.Second, Bytes: 4 << 10}

// serve runs a handler behind the pace; it answers the server's address.
func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// post sends a body of n bytes, part bytes at a time with a pause between. It
// answers the status, 0 when the connection was ended.
func post(t *testing.T, addr string, n, part int, between time.Duration) int {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", n)
	go func() {
		for sent := 0; sent < n; sent += part {
			time.Sleep(between)
			if _, err := c.Write(make([]byte, min(part, n-sent))); err != nil {
				return
			}
		}
	}()
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0
	}
	return res.StatusCode
}

func TestPaceOfABody(t *testing.T) {
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); errors.Is(err, os.ErrDeadlineExceeded) {
			http.Error(w, err.Error(), http.StatusRequestTimeout)
		}
	})
	for _, test := range []struct {
		name    string
		n, part int
		between time.Duration
		want    int
	}{
		{"at once", 100 << 10, 100 << 10, 0, 200},
		{"slow and honest", 40 << 10, 2 << 10, 100 * time.Millisecond, 200},
		{"small and late", 10, 10, 300 * time.Millisecond, 200},
		{"silent", 10, 10, 5 * time.Second, 408},
		{"trickling", 100, 1, 20 * time.Millisecond, 408},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := post(t, addr, test.n, test.part, test.between); got != test.want {
				t.Errorf("status %d, want %d", got, test.want)
			}
		})
	}
}

// A handler that works longer than any window with what it has read keeps its
// client; so does one that takes its time between two reads.
func TestLongWork(t *testing.T) {
	t.Parallel()
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) {
		io.CopyN(io.Discard, r.Body, 5)
		time.Sleep(2 * pace.Window)
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			http.Error(w, err.Error(), 400)
		}
		time.Sleep(2 * pace.Window)
		if r.Context().Err() != nil {
			http.Error(w, "the client is taken for gone", 500)
		}
	})
	if got := post(t, addr, 10, 10, 0); got != 200 {
		t.Errorf("status %d, want 200", got)
	}
}

// A handler's own limit counts, too.
func TestHandlersLimit(t *testing.T) {
	t.Parallel()
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusRequestTimeout)
		}
	})
	if got := post(t, addr, 24<<10, 2<<10, 60*time.Millisecond); got != 408 {
		t.Errorf("status %d, want 408", got)
	}
}

// Answers that are not read end; those that are read slowly do not.
func TestPaceOfAnAnswer(t *testing.T) {
	const size = 16 << 20
	want := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, want, 0o644); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	for name, send := range map[string]func(w http.ResponseWriter, r *http.Request) error{
		"file":   func(w http.ResponseWriter, r *http.Request) error { http.ServeFile(w, r, file); return nil },
		"memory": func(w http.ResponseWriter, r *http.Request) error { _, err := w.Write(want); return err },
		"copy": func(w http.ResponseWriter, r *http.Request) error {
			_, err := io.Copy(w, bytes.NewReader(want))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			addr := serve(t, func(w http.ResponseWriter, r *http.Request) { ended <- send(w, r) })
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
			case <-time.After(10 * time.Second):
				t.Fatal("a client that does not read is served for ever")
			}
			if took := time.Since(began); took < pace.Window/2 {
				t.Errorf("ended after %v already", took)
			}
		})
	}
}
