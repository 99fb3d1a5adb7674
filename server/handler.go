package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"edeploy/server/api"
	"edeploy/server/internal/configuration"
	"edeploy/server/internal/refusal"
	"edeploy/server/internal/upload"
	"edeploy/server/wire"
)

// contentType of an answer to an upload (reference section 4.3).
const contentType = "text/x-python"

// Machines serves what machines say: every path that ends in /upload.py, and
// their reports. It takes clean paths: whoever serves several rooms on one port
// cleans them for all.
func (s *Server) Machines() http.Handler { return s.machines }

// Operators serves /api/v1/ but for the reports: everything that steers, and
// shows what is going on.
func (s *Server) Operators() http.Handler { return s.operators }

// Handler serves both on one port.
func (s *Server) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isUpload(r) || r.URL.Path == wire.ReportPath {
			s.machines.ServeHTTP(w, r)
			return
		}
		s.operators.ServeHTTP(w, r)
	})
}

func isUpload(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/upload.py") }

// handlers makes both, once.
func (s *Server) handlers() (machines, operators http.Handler) {
	reports := s.timed(routes([]route{{"POST", wire.ReportPath, s.takeReport}}))
	machines = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isUpload(r) {
			s.takeUpload(w, r)
			return
		}
		reports.ServeHTTP(w, r)
	})
	return s.recovered(machines), s.recovered(s.timed(routes(s.operatorRoutes())))
}

// timed bounds the time of a request's body.
func (s *Server) timed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := limitReading(w, apiTime); err != nil {
			s.answerError(w, err)
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
func (s *Server) recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(v)
			}
			s.config.Log.Error("BUG: a request made the server panic", "path", r.URL.Path, "panic", v, "stack", string(debug.Stack()))
			message := "the server has a defect and could not answer; its log says where"
			if isUpload(r) {
				answerRefusal(w, http.StatusInternalServerError, message)
			} else {
				answerJSON(w, http.StatusInternalServerError, api.Refusal{Error: message})
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// statusOf is the HTTP status of a refusal.
func statusOf(err error) int {
	for _, k := range []struct {
		kind   error
		status int
	}{
		{refusal.Input, http.StatusBadRequest},
		{upload.ErrForm, http.StatusBadRequest},
		{upload.ErrNoFile, http.StatusBadRequest},
		{upload.ErrHardware, http.StatusBadRequest},
		{refusal.NoMatch, http.StatusNotFound},
		{refusal.UnknownMachine, http.StatusNotFound},
		{refusal.NoFile, http.StatusNotFound},
		{refusal.Precondition, http.StatusPreconditionFailed},
		{refusal.Conflict, http.StatusConflict},
		{refusal.TooLarge, http.StatusRequestEntityTooLarge},
		{upload.ErrTooLarge, http.StatusRequestEntityTooLarge},
		{refusal.Forbidden, http.StatusForbidden},
		{refusal.Unusable, http.StatusUnprocessableEntity},
		{refusal.NoSpace, http.StatusInsufficientStorage},
		{refusal.Broken, http.StatusServiceUnavailable},
		{refusal.Busy, http.StatusServiceUnavailable},
		{upload.ErrSpool, http.StatusInsufficientStorage},
	} {
		if errors.Is(err, k.kind) {
			return k.status
		}
	}
	return http.StatusInternalServerError
}

// readJSON reads the small body of a request, or answers what it should be.
func (s *Server) readJSON(w http.ResponseWriter, r *http.Request, body any, example string) bool {
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxAPIBytes)).Decode(body)
	if err != nil {
		s.answerError(w, refusal.New(refusal.Input, "want a body such as %s: %v", example, err))
	}
	return err == nil
}

// answer answers what was asked for, or why there is none.
func (s *Server) answer(w http.ResponseWriter, v any, err error) {
	if err != nil {
		s.answerError(w, err)
		return
	}
	answerJSON(w, http.StatusOK, v)
}

// answerError answers an API request that failed.
func (s *Server) answerError(w http.ResponseWriter, err error) {
	body := api.Refusal{Error: err.Error()}
	var broken *configuration.BrokenFiles
	if errors.As(err, &broken) {
		body.Problems = broken.Problems
	}
	answerJSON(w, s.failed(w, err), body)
}

// failed logs an error that is nobody's input, and answers its status.
func (s *Server) failed(w http.ResponseWriter, err error) int {
	status := statusOf(err)
	if errors.Is(err, refusal.Busy) {
		w.Header().Set("Retry-After", "10")
	}
	if status == http.StatusInternalServerError {
		s.config.Log.Error("request failed", "error", err)
	}
	return status
}

func answerJSON(w http.ResponseWriter, status int, v any) {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		body.Reset()
		status = http.StatusInternalServerError
		fmt.Fprintf(&body, "{\"error\": \"the answer cannot be written as JSON\"}\n")
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes()) // the client is gone: nothing to do
}

func answerRefusal(w http.ResponseWriter, status int, message string) {
	answerScript(w, status, wire.Refusal(message))
}

func answerScript(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) // the client is gone: it asks again
}
