package httpd

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"edeploy/server/api"
	"edeploy/server/internal/admission"
	"edeploy/server/internal/refusal"
	"edeploy/server/internal/store"
	"edeploy/server/internal/transaction"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

// handlers have a log and nothing to stand on.
func handlers(t *testing.T) *Handlers {
	return &Handlers{Config: Config{Queue: &transaction.Queue{Log: slog.New(slog.NewTextHandler(t.Output(), nil))}},
		longAnswers: admission.NewPlaces("long answers", 4, 10*time.Millisecond)}
}

// TestIfMatch: RFC 9110 section 13.1.1.
func TestIfMatch(t *testing.T) {
	const there = store.Version("v1")
	for _, tt := range []struct {
		header string
		is     store.Version
		want   bool
	}{
		{`"v1"`, there, true},
		{`"v2"`, there, false},
		{`"v2", "v1"`, there, true},
		{`"v2","v1" `, there, true},
		{`*`, there, true},
		{`*`, store.Absent, false},
		{`""`, store.Absent, false},
		{`v1`, there, false},
		{`W/"v1"`, there, false}, // compared strongly
	} {
		if got := expected(tt.header)(tt.is); got != tt.want {
			t.Errorf("%s for %q: %v", tt.header, tt.is, got)
		}
	}
	for _, none := range []string{"", "  "} {
		if expected(none) != nil {
			t.Errorf("%q expects something", none)
		}
	}
}

// TestPlainValues: what a record's Python texts are in JSON; a text that is none
// is left out, and nothing keeps the answer from being written.
func TestPlainValues(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"", "null"},
		{"{'ip': '10.0.0.1', 'n': 2, 'up': True, 'no': None}", `{"ip":"10.0.0.1","n":2,"no":null,"up":true}`},
		{"{'l': [1, (2, 'x')], 3: {}}", `{"3":{},"l":[1,[2,"x"]]}`},
		{"{'x': 1e999}", "null"}, // no number of JSON
		{"{'edited", "null"},
	} {
		got, err := json.Marshal(plainValues(tt.text))
		if err != nil || string(got) != tt.want {
			t.Errorf("%s: %s, %v, want %s", tt.text, got, err, tt.want)
		}
	}
}

// TestRefusals: every kind of refusal has its status, and only one that passes
// says when to come again; an error that is none is a 500.
func TestRefusals(t *testing.T) {
	h := handlers(t)
	want := map[error]int{
		refusal.Input: 400, refusal.Forbidden: 403, refusal.NoMatch: 404, refusal.NoFile: 404, refusal.UnknownMachine: 404, refusal.Conflict: 409,
		refusal.Precondition: 412, refusal.TooLarge: 413, refusal.Unusable: 422, refusal.Broken: 503, refusal.Busy: 503, refusal.NoSpace: 507,
		errors.New("a defect"): 500,
	}
	for kind, status := range want {
		w := httptest.NewRecorder()
		err := kind
		if k, ok := kind.(refusal.Kind); ok {
			err = fmt.Errorf("around: %w", refusal.New(k, "sentence of <%s>", k))
		}
		h.answerError(w, err)
		var body api.Refusal
		if e := json.Unmarshal(w.Body.Bytes(), &body); e != nil || body.Error != err.Error() || w.Code != status {
			t.Errorf("%v: %d %s (%v), want %d", kind, w.Code, w.Body, e, status)
		}
		if again := w.Header().Get("Retry-After") != ""; again != (kind == refusal.Busy) {
			t.Errorf("%v: Retry-After is there: %v", kind, again)
		}
		if w.Header().Get("X-Content-Type-Options") != "nosniff" || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%v: %v", kind, w.Header())
		}
	}
	if len(statuses) != len(want)-1 {
		t.Errorf("%d kinds have a status, %d are tried", len(statuses), len(want)-1)
	}
}

// TestRoutes: another method is a 405 with those that are taken, another path a
// 404, both in JSON.
func TestRoutes(t *testing.T) {
	say := func(word string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, word, r.PathValue("id")) }
	}
	all := routes([]route{{"GET", "/m/{id}", say("got ")}, {"DELETE", "/m/{id}", say("deleted ")}})
	for _, tt := range []struct {
		method, path string
		status       int
		body, allow  string
	}{
		{"GET", "/m/a%2Fb", 200, "got a/b", ""},
		{"DELETE", "/m/a", 200, "deleted a", ""},
		{"PUT", "/m/a", 405, "/m/a takes GET and DELETE", "GET, DELETE"},
		{"GET", "/m/", 404, "there is nothing at /m/", ""},
		{"GET", "/m/" + strings.Repeat("x", 9000), 200, "got x", ""},
		{"GET", "/" + strings.Repeat("x", 9000), 404, "xxx...", ""},
	} {
		w := httptest.NewRecorder()
		all.ServeHTTP(w, httptest.NewRequest(tt.method, tt.path, nil))
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.body) || w.Header().Get("Allow") != tt.allow {
			t.Errorf("%s %.20s: %d %.100s, Allow %q", tt.method, tt.path, w.Code, w.Body, w.Header().Get("Allow"))
		}
		if tt.status != 200 && (w.Header().Get("Content-Type") != "application/json" || w.Body.Len() > 1000) {
			t.Errorf("%s %.20s: %s of %d bytes", tt.method, tt.path, w.Header().Get("Content-Type"), w.Body.Len())
		}
	}
}

// TestRecovered: a defect is a 500 in the form that the asker reads, and says
// nothing of the inside; an answer that is broken off stays so.
func TestRecovered(t *testing.T) {
	h := handlers(t)
	broken := h.recovered(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("secret") }))
	for path, kind := range map[string]string{"/cgi-bin/upload.py": wire.ScriptType, "/api/v1/machines": "application/json"} {
		w := httptest.NewRecorder()
		broken.ServeHTTP(w, httptest.NewRequest("POST", path, nil))
		if w.Code != 500 || w.Header().Get("Content-Type") != kind || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s: %d %s %s", path, w.Code, w.Header().Get("Content-Type"), w.Body)
		}
		if kind == wire.ScriptType && wire.ParseRefusal(w.Body.String()) == "" {
			t.Errorf("no console can show %s", w.Body)
		}
	}
	defer func() {
		if v := recover(); v != http.ErrAbortHandler {
			t.Errorf("an aborted answer panics with %v", v)
		}
	}()
	h.recovered(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
}

// TestLongAnswers: one that fails before its first block is an error, one that
// fails later is broken off, and while the places are taken nobody waits for long.
func TestLongAnswers(t *testing.T) {
	h := handlers(t)
	answer := func(write func(*bufio.Writer) error) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.answerLong(w, httptest.NewRequest("GET", "/", nil), "text/plain", write)
		return w
	}
	if w := answer(func(out *bufio.Writer) error { _, err := out.WriteString("all"); return err }); w.Code != 200 || w.Body.String() != "all" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	no := refusal.New(refusal.NoFile, "no such log")
	if w := answer(func(out *bufio.Writer) error { _, _ = out.WriteString("a little"); return no }); w.Code != 404 || strings.Contains(w.Body.String(), "little") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	func() {
		defer func() {
			if v := recover(); v != http.ErrAbortHandler {
				t.Errorf("half an answer: %v", v)
			}
		}()
		answer(func(out *bufio.Writer) error {
			_, _ = out.WriteString(strings.Repeat("x", 2*longBlock))
			return io.ErrUnexpectedEOF
		})
	}()
	var inner *httptest.ResponseRecorder
	answer(func(*bufio.Writer) error { // one peer has one of the four places
		inner = answer(func(*bufio.Writer) error { return nil })
		return nil
	})
	if inner.Code != 503 || inner.Header().Get("Retry-After") == "" {
		t.Errorf("a second one of the same peer: %d", inner.Code)
	}
}

// TestBodies: how much of a body is read, and what is said of the rest.
func TestBodies(t *testing.T) {
	post := func(text string) *http.Request { return httptest.NewRequest("POST", "/", strings.NewReader(text)) }
	var body api.NewBoot
	for _, text := range []string{"", "{", `"x"`, `{"action": "` + strings.Repeat("x", maxAPIBytes) + `"}`} {
		if err := readJSON(post(text), &body, "EXAMPLE"); !errors.Is(err, refusal.Input) || !strings.Contains(err.Error(), "EXAMPLE") {
			t.Errorf("%.20q: %v", text, err)
		}
	}
	if text, err := readBody(post("12345"), 5, "it"); err != nil || string(text) != "12345" {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := readBody(post("123456"), 5, "it"); !errors.Is(err, refusal.TooLarge) || err.Error() != "it may have 5 bytes" {
		t.Errorf("%v", err)
	}
	for text, want := range map[string]error{`{"files": {"a.specs": "x"}}`: nil, `{"file": {}}`: refusal.Input, `{} {}`: refusal.Input, "{\"files\": {\"a.specs\": \"\xff\"}}": refusal.Input} {
		if _, err := readSet(post(text)); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", text, err, want)
		}
	}
}

func TestPeer(t *testing.T) {
	got := map[string]string{}
	for _, from := range []string{"10.0.0.1:99", "[fe80::1%eth0]:99", "@"} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = from
		got[from] = peerOf(r)
	}
	want := map[string]string{"10.0.0.1:99": "10.0.0.1", "[fe80::1%eth0]:99": "fe80::1%eth0", "@": "@"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
