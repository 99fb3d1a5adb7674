package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"edeploy/agent/internal/client"
	"edeploy/server/wire"
)

var hardware = wire.Hardware{
	{Category: "disk", ID: "vda", Field: "size", Value: "8"},
	{Category: "network", ID: "eth0", Field: "serial", Value: "02:00:00:00:00:01"},
}

// talkTo returns a client of the server with pauses of a laptop.
func talkTo(t *testing.T, url string) *client.Client {
	t.Helper()
	args, err := wire.ParseBootArgs("SECTION=LAB")
	if err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	args.Serv = host
	if _, err := fmt.Sscan(port, &args.HTTPPort); err != nil {
		t.Fatal(err)
	}
	return &client.Client{Args: args, FirstPause: time.Millisecond, LongestPause: 5 * time.Millisecond, Patience: 5 * time.Second}
}

func TestConfigurationSendsTheForm(t *testing.T) {
	want := wire.Configuration{Profile: "vm", Var: "{'disk': 'vda'}", Script: "run('true')\n"}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/cgi-bin/upload.py" || r.FormValue("section") != "LAB" || r.FormValue("failure") != "" {
			t.Errorf("path %s, section %q, failure %q", r.URL.Path, r.FormValue("section"), r.FormValue("failure"))
		}
		file, header, err := r.FormFile("file")
		if err != nil {
			t.Error(err)
			return
		}
		hw, err := wire.DecodeHardware(file)
		if diff := cmp.Diff(hardware, hw); err != nil || diff != "" || header.Filename != "hw.json" {
			t.Errorf("file %s, error %v (-want +got):\n%s", header.Filename, err, diff)
		}
		io.WriteString(w, want.Encode())
	}))
	defer srv.Close()
	got, err := talkTo(t, srv.URL).Configuration(t.Context(), hardware)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestConfigurationRefused(t *testing.T) {
	tests := []struct {
		name   string
		status int
		body   string
		want   string
	}{
		{"no match", 404, wire.Refusal("no profile fits:\nvm: nothing fits ('disk', '$d', 'size', 'gt(4)')"), "no profile fits:\nvm: nothing fits ('disk', '$d', 'size', 'gt(4)')"},
		{"plain text", 400, "bad form", "bad form"},
		{"nothing said", 500, "", "HTTP status 500"},
		{"original server, no match", 200, " \n", "the server's answer is empty: no profile fits this machine"},
		{"original server, refusal", 200, "#!/bin/sh\necho 'No more role'\nexit 1\n", "#!/bin/sh\necho 'No more role'\nexit 1"},
		{"web page", 200, "<html>hello</html>", `answer of the server names no profile (no line "#EDEPLOY_PROFILE =")`},
		{"endless", 200, strings.Repeat("x", 5<<20), "the server's answer is larger than 4194304 bytes"},
		{"redirect", 302, "", "HTTP status 302"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			asked := 0
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked++
				w.WriteHeader(tt.status)
				io.WriteString(w, tt.body)
			}))
			defer srv.Close()
			_, err := talkTo(t, srv.URL).Configuration(t.Context(), hardware)
			if err == nil || !strings.HasSuffix(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if asked != 1 {
				t.Errorf("asked %d times, want once", asked)
			}
		})
	}
}

// writerFunc is told what is logged.
type writerFunc func(p []byte)

func (w writerFunc) Write(p []byte) (int, error) { w(p); return len(p), nil }

// An appliance that is restarted: refused connections, then 503, then an
// answer that is cut, then good.
func TestConfigurationWaitsForTheServer(t *testing.T) {
	var asked atomic.Int32
	conf := wire.Configuration{Profile: "vm", Var: "{}", Script: "pass\n"}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		switch asked.Add(1) {
		case 1:
			http.Error(w, wire.Refusal("starting"), http.StatusServiceUnavailable)
		case 2:
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, conf.Encode())
		default:
			io.WriteString(w, conf.Encode())
		}
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close() // nobody listens for a while
	var wg sync.WaitGroup
	srv := &http.Server{Handler: handler}
	refused := make(chan struct{})
	wg.Go(func() {
		<-refused
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Error(err)
			return
		}
		srv.Serve(l)
	})
	c := talkTo(t, "http://"+address)
	var once sync.Once
	c.Log = slog.New(slog.NewTextHandler(writerFunc(func(p []byte) { once.Do(func() { close(refused) }) }), nil))
	got, err := c.Configuration(t.Context(), hardware)
	if diff := cmp.Diff(conf, got); err != nil || diff != "" {
		t.Errorf("%v, configuration (-want +got):\n%s", err, diff)
	}
	if n := asked.Load(); n != 3 {
		t.Errorf("asked %d times, want 3", n)
	}
	srv.Close()
	wg.Wait()
}

func TestPatienceEnds(t *testing.T) {
	c := talkTo(t, "http://127.0.0.1:1")
	c.Patience = 20 * time.Millisecond
	_, err := c.Configuration(t.Context(), hardware)
	if err == nil || !strings.Contains(err.Error(), "upload to http://127.0.0.1:1/cgi-bin/upload.py: no answer for") ||
		!strings.Contains(err.Error(), "connection refused") {
		t.Errorf("got %v", err)
	}
}

func TestCancelledWait(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("power button")
	cancel(why)
	if _, err := talkTo(t, "http://127.0.0.1:1").Configuration(ctx, hardware); !errors.Is(err, why) {
		t.Errorf("got %v, want %v", err, why)
	}
}

func TestFailureAndLog(t *testing.T) {
	var failure, logName, log string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		file, header, err := r.FormFile("file")
		if err != nil {
			t.Error(err)
			return
		}
		if r.FormValue("failure") != "" {
			failure = r.FormValue("failure") + " " + header.Filename
			return
		}
		text, _ := io.ReadAll(file)
		logName, log = header.Filename, string(text)
	}))
	defer srv.Close()
	c := talkTo(t, srv.URL)
	if err := errors.Join(c.Failure(t.Context(), "vm", hardware), c.UploadLog(t.Context(), "A-B-C.log.gz", []byte("zipped"))); err != nil {
		t.Fatal(err)
	}
	if failure != "vm hw.json" || logName != "A-B-C.log.gz" || log != "zipped" {
		t.Errorf("failure %q, log %q %q", failure, logName, log)
	}
}

func TestReporter(t *testing.T) {
	var mu sync.Mutex
	var got []string
	var away atomic.Bool
	away.Store(true)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if away.Load() {
			http.Error(w, "starting", http.StatusServiceUnavailable)
			return
		}
		rep, err := wire.DecodeReport(r.Body)
		if err != nil || r.URL.Path != wire.ReportPath {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		mu.Lock()
		defer mu.Unlock()
		got = append(got, fmt.Sprint(rep.Machine.UUID, " ", rep.Step, " ", rep.Status, " ", rep.Bytes))
		if rep.Step == wire.StepUpload {
			http.Error(w, "no", http.StatusBadRequest) // a refused report does not stop the others
		}
	}))
	defer srv.Close()
	r := client.NewReporter(t.Context(), talkTo(t, srv.URL))
	r.Send(wire.Report{Step: wire.StepDevices, Status: wire.StatusDone})
	r.Identify(wire.Identity{UUID: "u1"})
	r.Send(wire.Report{Step: wire.StepUpload, Status: wire.StatusDone})
	for i := range int64(5000) {
		r.Send(wire.Report{Step: wire.StepTransfer, Status: wire.StatusProgress, Bytes: i})
	}
	r.Send(wire.Report{Step: wire.StepTransfer, Status: wire.StatusDone})
	away.Store(false)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r.Finish(ctx)
	want := []string{"u1 devices done 0", "u1 upload done 0", "u1 transfer done 0"}
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestReporterNeverBlocks(t *testing.T) {
	r := client.NewReporter(t.Context(), talkTo(t, "http://127.0.0.1:1"))
	for range 1000 {
		r.Send(wire.Report{Step: wire.StepDevices, Status: wire.StatusDone})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	r.Finish(ctx) // nobody was identified: nothing can be sent, and this returns
}

// OrderWipe asks until the server answers, and says who asks.
func TestOrderWipe(t *testing.T) {
	is := wire.Identity{MACs: []string{"02:00:00:00:00:01"}, UUID: "u"}
	var asked atomic.Int32
	answer := http.StatusOK
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var got wire.Identity
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil || r.Method != http.MethodPost || r.URL.Path != wire.WipePath || !cmp.Equal(got, is) {
			t.Errorf("%s %s: %+v, %v", r.Method, r.URL, got, err)
		}
		switch {
		case asked.Add(1) < 3:
			w.WriteHeader(http.StatusServiceUnavailable)
		case answer != http.StatusOK:
			w.WriteHeader(answer)
			io.WriteString(w, `{"error": "nobody has said so"}`)
		default:
			io.WriteString(w, `{"machine": "m1", "name": "node3", "macs": ["02:00:00:00:00:01"]}`)
		}
	}))
	defer srv.Close()
	got, err := talkTo(t, srv.URL).OrderWipe(t.Context(), is)
	want := wire.WipeOrder{Machine: "m1", Name: "node3", Identity: wire.Identity{MACs: is.MACs}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" || asked.Load() != 3 {
		t.Errorf("%v, asked %d times (-want +got):\n%s", err, asked.Load(), diff)
	}
	answer = http.StatusConflict
	refused, ok := errors.AsType[*client.Refused](func() error { _, err := talkTo(t, srv.URL).OrderWipe(t.Context(), is); return err }())
	if !ok || refused.Error() != "nobody has said so" {
		t.Errorf("%v", refused)
	}
}
