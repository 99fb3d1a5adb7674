package appliance_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"edeploy/appliance"
	"edeploy/server/wire"
)

// onLoopback is an appliance without boot services on ports of the loopback
// device.
func onLoopback(t *testing.T) (*appliance.Appliance, string) {
	t.Helper()
	a, addr, _ := onLoopbackIn(t)
	return a, addr
}

// onLoopbackIn answers the directory of its files, too.
func onLoopbackIn(t *testing.T) (a *appliance.Appliance, addr, dir string) {
	t.Helper()
	dir = t.TempDir()
	files := map[string]string{
		"edeploy.conf": "[SERVER]\nCONFIGDIR=config\n[NETWORK]\nADDRESS=127.0.0.1/8\n[DHCP]\nENABLED=no\n" +
			"[HTTP]\nNAMES = rack.example, 192.0.2.9\n[IMAGES]\nTOP=images\n[STATE]\nDIR=server\n",
		"config/state":                      "[]\n",
		"images/install/V1/base-V1.edeploy": "archive",
	}
	writeFiles(t, dir, files)
	config, err := appliance.ReadConfig(filepath.Join(dir, "edeploy.conf"))
	if err != nil {
		t.Fatal(err)
	}
	sockets := appliance.Sockets{HTTP: anyPort(t), Rsync: anyPort(t)}
	if a, err = appliance.New(t.Context(), config, sockets, nil); err != nil {
		t.Fatal(err)
	}
	run(t, a)
	return a, sockets.HTTP.Addr().String(), dir
}

func anyPort(t *testing.T) *net.TCPListener {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l.(*net.TCPListener)
}

func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// screen keeps what the person in front of the appliance sees.
type screen struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *screen) await(t *testing.T, line string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		s.mu.Lock()
		text := s.text.String()
		s.mu.Unlock()
		if strings.Contains(text, line) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the console does not say %q within 20 s:\n%s", line, text)
		}
	}
}

// run runs an appliance until the test ends.
func run(t *testing.T, a *appliance.Appliance) *screen {
	t.Helper()
	ended, shown := make(chan error, 1), new(screen)
	ctx, stop := context.WithCancel(t.Context())
	go func() { ended <- a.Run(ctx, io.MultiWriter(shown, t.Output())) }()
	select {
	case <-a.Ready():
	case err := <-ended:
		t.Fatal(err)
	case <-time.After(20 * time.Second):
		t.Fatal("the appliance is not ready within 20 s")
	}
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return shown
}

// Paths with doubled slashes and dots reach every room, without a redirect.
func TestPathsAreCleaned(t *testing.T) {
	_, addr := onLoopback(t)
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for path, want := range map[string]int{
		"/install/V1/base-V1.edeploy":         200,
		"//install//V1/base-V1.edeploy":       200,
		"/install/./V1/../V1/base-V1.edeploy": 200,
		"//install//":                         200,
		"/api/v1/images":                      200,
		"//api/v1/images":                     200,
		"//api//v1//images/":                  200,
		"//api//v1/version":                   200,
		"/api/v1/version/":                    200,
		"//metadata/":                         200,
		"//cgi-bin//upload.py":                405, // wants POST
		"/installed":                          404,
		"/install/../../etc/passwd":           404,
	} {
		res, err := client.Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("GET %s: %s, want %d", path, res.Status, want)
		}
	}
}

// A web page from elsewhere cannot use the operator's browser against any room.
func TestBrowsers(t *testing.T) {
	a, _ := onLoopback(t)
	const chrome = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"
	for _, test := range []struct {
		name, host string
		header     http.Header
		refused    bool
	}{
		{"a command", "127.0.0.1:80", nil, false},
		{"a command, any name", "edeploy.lab", http.Header{"User-Agent": {"curl/8"}}, false},
		{"own page", "127.0.0.1", http.Header{"User-Agent": {chrome}, "Origin": {"http://127.0.0.1"}}, false},
		{"own page through a tunnel", "localhost:8080", http.Header{"User-Agent": {chrome}, "Origin": {"http://localhost:8080"}, "Sec-Fetch-Site": {"same-origin"}}, false},
		{"configured name", "RACK.example", http.Header{"User-Agent": {chrome}, "Origin": {"http://RACK.example"}}, false},
		{"configured address", "192.0.2.9:80", http.Header{"Origin": {"http://192.0.2.9:80"}}, false},
		{"another site", "127.0.0.1", http.Header{"Origin": {"http://evil.example"}}, true},
		{"another site, fetch metadata", "127.0.0.1", http.Header{"Sec-Fetch-Site": {"cross-site"}}, true},
		{"another page of this host", "127.0.0.1", http.Header{"Sec-Fetch-Site": {"same-site"}}, true},
		{"sandboxed page", "127.0.0.1", http.Header{"Origin": {"null"}}, true},
		{"rebound name", "evil.example", http.Header{"Origin": {"http://evil.example"}}, true},
		{"rebound name with a port", "evil.example:80", http.Header{"Origin": {"http://evil.example:80"}, "Sec-Fetch-Site": {"same-origin"}}, true},
		{"rebound name, fetch metadata only", "evil.example", http.Header{"Sec-Fetch-Mode": {"cors"}}, true},
		{"rebound name, nothing but a browser", "evil.example", http.Header{"User-Agent": {chrome}}, true},
	} {
		for method, path := range map[string]string{
			"PUT": "/api/v1/config/SERVER/vm.specs", "DELETE": "/api/v1/images/V1/base", "PATCH": "/api/v1/images/V2/base/archive", "POST": "/cgi-bin/upload.py",
		} {
			r := httptest.NewRequest(method, path, strings.NewReader("[]"))
			r.Host = test.host
			if test.header != nil {
				r.Header = test.header
			}
			w := httptest.NewRecorder()
			a.Handler().ServeHTTP(w, r)
			if method == "POST" && test.refused && wire.ParseRefusal(w.Body.String()) == "" {
				t.Errorf("%s: a machine's console cannot show %s", test.name, w.Body)
			}
			if refused := w.Code == http.StatusForbidden; refused != test.refused {
				t.Errorf("%s: %s %s: status %d (%s), want refused = %v", test.name, method, path, w.Code, w.Body, test.refused)
			}
		}
	}
	r := httptest.NewRequest("GET", "/api/v1/machines", nil)
	r.Host = "evil.example"
	r.Header.Set("User-Agent", chrome)
	w := httptest.NewRecorder()
	a.Handler().ServeHTTP(w, r)
	if w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "[HTTP] NAMES") {
		t.Errorf("a rebound page reads the machines: status %d %s", w.Code, w.Body)
	}
}

// Routing costs little: the handlers are made once.
func TestAllocations(t *testing.T) {
	a, _ := onLoopback(t)
	r := httptest.NewRequest("GET", "/api/v1/version", nil)
	n := testing.AllocsPerRun(100, func() {
		w := httptest.NewRecorder()
		a.Handler().ServeHTTP(w, r)
		if w.Code != 200 {
			t.Fatal(w.Code)
		}
	})
	t.Logf("%.0f allocations", n)
	if n > 60 {
		t.Errorf("%.0f allocations, want 60 at most", n)
	}
}

// A peer that uses up its places of every class leaves those of others alone.
func TestPlacesOfAPeer(t *testing.T) {
	_, addr := onLoopback(t)
	for _, test := range []struct {
		method, path string
		headers      string
		share, more  int
	}{
		{"POST", "//cgi-bin//upload.py", "Content-Type: multipart/form-data; boundary=x\r\n", 16, 24},
		{"PATCH", "/api/v1/images/V%d/base/archive", "Upload-Offset: 0\r\nUpload-Length: 100000\r\nUpload-Sha256: " + strings.Repeat("0", 64) + "\r\n", 2, 8},
		{"PUT", "/api/v1/config/SERVER/vm.specs", "", 1, 9},
		{"POST", wire.ReportPath, "", 16, 24},
	} {
		t.Run(test.path, func(t *testing.T) {
			n := 0
			request := func() string {
				n++
				path := strings.ReplaceAll(test.path, "%d", fmt.Sprint(n))
				return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: 100000\r\n\r\n--", test.method, path, test.headers)
			}
			var conns []net.Conn
			for range test.share {
				conns = append(conns, takePlace(t, addr, request()))
			}
			for range test.more {
				conns = append(conns, dialFrom(t, addr, "127.0.0.2"))
				io.WriteString(conns[len(conns)-1], request())
			}
			honest := dialFrom(t, addr, "127.0.0.3")
			began := time.Now()
			io.WriteString(honest, request()+"\r\n"+strings.Repeat("-", 100000-4))
			buf := make([]byte, 4096)
			got, err := honest.Read(buf)
			if took := time.Since(began); err != nil || took > 2*time.Second || strings.HasPrefix(string(buf[:got]), "HTTP/1.1 503") {
				t.Errorf("%s %s: another peer gets %.200q, %v after %v", test.method, test.path, buf[:got], err, took)
			}
			for _, c := range conns {
				c.Close()
			}
			for range test.share { // all places come back
				takePlace(t, addr, request())
			}
		})
	}
}

// takePlace sends a request whose body does not come, and waits until it is
// asked for: the request has its place then.
func takePlace(t *testing.T, addr, request string) net.Conn {
	t.Helper()
	c := dialFrom(t, addr, "127.0.0.2")
	head, _, _ := strings.Cut(request, "\r\n\r\n")
	io.WriteString(c, head+"\r\nExpect: 100-continue\r\n\r\n")
	const want = "HTTP/1.1 100 Continue"
	answer := make([]byte, len(want))
	if _, err := io.ReadFull(c, answer); string(answer) != want {
		t.Fatalf("%s\n%q, %v, want %s", head, answer, err, want)
	}
	return c
}

// A bound that is reached is a problem that the operator can read.
func TestBoundIsAProblem(t *testing.T) {
	_, addr := onLoopback(t)
	const request = "PUT /api/v1/config/SERVER/vm.specs HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n-"
	takePlace(t, addr, request)
	waiting := dialFrom(t, addr, "127.0.0.2")
	io.WriteString(waiting, request)
	buf := make([]byte, 4096)
	n, _ := waiting.Read(buf)
	const want = "127.0.0.2 has its share of configuration changes already (1 at once): ask again later"
	if answer := string(buf[:n]); !strings.HasPrefix(answer, "HTTP/1.1 503 ") || !strings.Contains(answer, want) {
		t.Errorf("beyond the share: %q", answer)
	}
	res, err := http.Get("http://" + addr + "/api/v1/problems")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if text, _ := io.ReadAll(res.Body); !strings.Contains(string(text), want) {
		t.Errorf("the problems do not say it: %s", text)
	}
}

// A client that sends its body only when it is asked for (RFC 9110 section
// 10.1.1) is asked, or hears the refusal without sending it.
func TestExpectContinue(t *testing.T) {
	_, addr := onLoopback(t)
	for path, want := range map[string]string{"/api/v1/config/SERVER/vm.specs": "HTTP/1.1 100 Continue", "/api/v1/nothing": "HTTP/1.1 404 "} {
		c := dialFrom(t, addr, "127.0.0.2")
		fmt.Fprintf(c, "PUT %s HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n", path)
		c.SetDeadline(time.Now().Add(5 * time.Second)) // at once, that is
		buf := make([]byte, 4096)
		n, err := c.Read(buf)
		if !strings.HasPrefix(string(buf[:n]), want) {
			t.Errorf("%s: %q, %v, want %s", path, buf[:n], err, want)
			continue
		}
		if strings.Contains(want, "100") {
			io.WriteString(c, "[]\n")
			if n, err = c.Read(buf); !strings.HasPrefix(string(buf[:n]), "HTTP/1.1 200 ") {
				t.Errorf("%s: after the body %q, %v", path, buf[:n], err)
			}
		}
	}
}

func dialFrom(t *testing.T, addr, from string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 5 * time.Second}
	c, err := d.Dial("tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}
