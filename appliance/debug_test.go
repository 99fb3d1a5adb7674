package appliance_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The stacks are there for who may enter the directory, and not over TCP.
func TestDebugSocket(t *testing.T) {
	_, addr, dir := onLoopbackIn(t)
	socket := filepath.Join(dir, "server/debug/pprof.sock")
	info, err := os.Stat(filepath.Dir(socket))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Fatalf("directory of the socket: %v, %v", info, err)
	}
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	defer client.CloseIdleConnections()
	res, err := client.Get("http://x/debug/pprof/goroutine?debug=1")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if text, _ := io.ReadAll(res.Body); !strings.HasPrefix(string(text), "goroutine profile: total ") {
		t.Errorf("the socket answers %.100q", text)
	}
	if res, err := http.Get("http://" + addr + "/debug/pprof/"); err != nil || res.StatusCode != http.StatusNotFound {
		t.Errorf("over TCP: %v, %v", res, err)
	}
}
