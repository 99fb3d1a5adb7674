// Package httpd takes what machines and operators ask over HTTP to those who
// decide and know, and answers what they say.
package httpd

import (
	"errors"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"edeploy/server/api"
	"edeploy/server/internal/admission"
	"edeploy/server/internal/archive"
	"edeploy/server/internal/problems"
	"edeploy/server/internal/refusal"
	"edeploy/server/internal/transaction"
	"edeploy/server/wire"

	"golang.org/x/sync/semaphore"
)

// Config is what handlers stand on; all of it must be given but Loaders.
type Config struct {
	*transaction.Queue
	Archives   map[string]Archives // by section of edeploy.conf
	SpoolDir   string              // for logs that are being read
	Problems   *problems.Finder
	Uploads    int           // that are read at once
	Wait       time.Duration // longest, for a place
	BodyTime   time.Duration // longest time of one upload on the wire
	LogBytes   int64         // of one log
	NewPerPeer int           // machines that nobody knew, of one peer, at once and then per minute
	Version    api.Version
	Loaders    func(macs []string) []api.FirmwareLoader // what boot services know; nil: there are none
}

// Archives are what the machines of a deployment have sent.
type Archives struct{ Hardware, Logs *archive.Archive }

// Handlers answer requests. They are safe for concurrent use.
type Handlers struct {
	Config
	Machines     http.Handler        // uploads, reports, and what the agent asks
	Operators    http.Handler        // all that steers and shows
	uploads      *admission.Places   // that are read
	longAnswers  *admission.Places   // that are written
	editors      *admission.Places   // configuration files in work
	arrivals     *admission.Rate     // of machines that nobody knew
	waitingBytes *semaphore.Weighted // of uploads that wait for their decision
}

// New makes the handlers.
func New(config Config) *Handlers {
	h := &Handlers{Config: config,
		uploads:      admission.NewPlaces("uploads", config.Uploads, config.Wait),
		editors:      admission.NewPlaces("changes of the configuration", maxEditors, config.Wait),
		longAnswers:  admission.NewPlaces("long answers", maxLong, longWait),
		arrivals:     admission.NewRate(config.NewPerPeer),
		waitingBytes: semaphore.NewWeighted(maxWaitingBytes)}
	others := h.timed(routes([]route{
		{"POST", wire.ReportPath, h.json(http.StatusOK, h.takeReport)},
		{"GET", wire.KeysPath + "{section}", h.sendKeys},
		{"POST", wire.WipePath, h.json(http.StatusOK, h.orderWipe)},
	}))
	h.Machines = h.recovered(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isUpload(r) {
			h.takeUpload(w, r)
			return
		}
		others.ServeHTTP(w, r)
	}))
	h.Operators = h.recovered(h.timed(routes(h.operatorRoutes())))
	return h
}

// ServeHTTP serves both on one port.
func (h *Handlers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if isUpload(r) || r.URL.Path == wire.ReportPath || r.URL.Path == wire.WipePath || strings.HasPrefix(r.URL.Path, wire.KeysPath) {
		h.Machines.ServeHTTP(w, r)
		return
	}
	h.Operators.ServeHTTP(w, r)
}

func isUpload(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/upload.py") }

// timed bounds the time of a request's body.
func (h *Handlers) timed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := limitReading(w, apiTime); err != nil {
			h.answerError(w, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// route is a path with one of its methods.
type route struct {
	method, path string
	handle       http.HandlerFunc
}

// routes answers other methods with 405 and other paths with 404, in JSON.
func routes(all []route) http.Handler {
	mux := http.NewServeMux()
	methods := map[string][]string{}
	for _, r := range all {
		mux.HandleFunc(r.method+" "+r.path, r.handle)
		methods[r.path] = append(methods[r.path], r.method)
	}
	for path, allowed := range methods {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", strings.Join(allowed, ", "))
			answerJSON(w, http.StatusMethodNotAllowed, api.Refusal{Error: r.URL.Path + " takes " + strings.Join(allowed, " and ")})
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		answerJSON(w, http.StatusNotFound, api.Refusal{Error: "there is nothing at " + refusal.Clip(r.URL.Path, 200)})
	})
	return mux
}

// apiTime is the longest time that the body of an API request may take.
const apiTime = 30 * time.Second

// limitReading ends a body that trickles. Only a real connection has
// deadlines; a test's recorder has none and needs none.
func limitReading(w http.ResponseWriter, most time.Duration) error {
	return supported(http.NewResponseController(w).SetReadDeadline(time.Now().Add(most)))
}

// peerOf is the address that a request comes from, without its port.
func peerOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// recovered answers 500 when a handler panics, and goes on.
func (h *Handlers) recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(v)
			}
			h.Log.Error("BUG: a request made the server panic", "path", r.URL.Path, "panic", v, "stack", string(debug.Stack()))
			message := "the server has a defect and could not answer; its log says where"
			if isUpload(r) {
				answerScript(w, http.StatusInternalServerError, wire.Refusal(message))
			} else {
				answerJSON(w, http.StatusInternalServerError, api.Refusal{Error: message})
			}
		}()
		next.ServeHTTP(w, r)
	})
}
