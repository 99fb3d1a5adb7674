package api_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"edeploy/server/api"
	"edeploy/server/wire"
)

// serve answers every request with a status and a text.
func serve(t *testing.T, status int, header http.Header, text string) *api.Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name := range header {
			w.Header().Set(name, header.Get(name))
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}))
	t.Cleanup(server.Close)
	return &api.Client{Address: strings.TrimPrefix(server.URL, "http://")}
}

func TestSentences(t *testing.T) {
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	late := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer late.Close()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		name   string
		client *api.Client
		ctx    context.Context
		want   string // BASE is the URL
		status int
	}{
		{"no address", &api.Client{}, t.Context(), "which server? Give --server or set EDEPLOY_SERVER", 0},
		{"no URL", &api.Client{Address: "http://"}, t.Context(), `server "http://" is neither a URL nor a host`, 0},
		{"refused", serve(t, 409, nil, `{"error": "it is \u001b[31minstalled"}`), t.Context(), "it is [31minstalled", 409},
		{"without a sentence", serve(t, 502, nil, "<html>"), t.Context(), "the server answers 502 Bad Gateway", 502},
		{"no JSON", serve(t, 200, nil, "<html>"), t.Context(), "/api/v1/machines answers something that is not from an eDeploy server", 0},
		{"broken off", serve(t, 200, http.Header{"Content-Length": {"100"}}, "["), t.Context(), "read the answer of BASE: unexpected EOF", 0},
		{"closed", &api.Client{Address: closed.URL}, t.Context(), "BASE does not answer: dial tcp", 0},
		{"late", &api.Client{Address: late.URL, Timeout: 50 * time.Millisecond}, t.Context(), "BASE has not answered in 50ms", 0},
		{"interrupted", &api.Client{Address: late.URL}, gone, "interrupted", 0},
	} {
		_, err := tt.client.Machines(tt.ctx)
		base := "http://" + strings.TrimPrefix(tt.client.Address, "http://")
		if want := strings.ReplaceAll(tt.want, "BASE", base); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", tt.name, err, want)
		}
		if got := api.StatusOf(err); got != tt.status {
			t.Errorf("%s: status %d, want %d", tt.name, got, tt.status)
		}
	}
	if _, err := (&api.Client{Address: late.URL}).SetBoot(gone, "m1", "hold"); err == nil || err.Error() != "interrupted: the server may have done it all the same" {
		t.Errorf("an interrupted change: %v", err)
	}
}

// TestRetry: what may pass is tried again, what does not ends at once.
func TestRetry(t *testing.T) {
	for _, tt := range []struct {
		status int
		header http.Header
		want   bool
	}{
		{409, nil, false},
		{409, http.Header{api.HeaderOffset: {"5"}}, true},
		{409, http.Header{"Retry-After": {"5"}}, true},
		{503, nil, true},
		{507, nil, false},
		{404, nil, false},
	} {
		client, tries := serve(t, tt.status, tt.header, `{"error": "no"}`), 0
		err := api.Retry(t.Context(), 50*time.Millisecond, func(error) {}, func() (bool, error) {
			tries++
			_, err := client.Image(t.Context(), wire.ImageRef{Role: "web", Version: "V1"})
			return tries == 1, err
		})
		if again := tries > 1; again != tt.want || again != errors.Is(err, api.ErrNotNow) || api.StatusOf(err) != tt.status {
			t.Errorf("%d %v: %d tries, %v, want again = %v", tt.status, tt.header, tries, err, tt.want)
		}
	}
	var told error
	err := api.Retry(t.Context(), time.Second, func(err error) { told = err }, func() (bool, error) {
		if told == nil {
			return false, fmt.Errorf("%w: half of it", api.ErrNotNow)
		}
		return true, nil
	})
	if err != nil || fmt.Sprint(told) != "not now: half of it" {
		t.Errorf("%v, told %v", err, told)
	}
}

// TestSettings: a server with a certificate of its own, reached by its own way.
func TestSettings(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "[]") }))
	defer server.Close()
	known := x509.NewCertPool()
	known.AddCert(server.Certificate())
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
	}
	client := api.Client{Address: "example.com", Scheme: "https", CA: known, Dial: dial}
	if _, err := client.Machines(t.Context()); err != nil {
		t.Error(err)
	}
	stranger := api.Client{Address: server.URL, CA: x509.NewCertPool()}
	if _, err := stranger.Machines(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate that nobody has signed: %v", err)
	}
}
