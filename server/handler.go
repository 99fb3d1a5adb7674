package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"edeploy/server/internal/refusal"
	"edeploy/server/internal/upload"
	"edeploy/server/wire"
)

// contentType of an answer to an upload (reference section 4.3).
const contentType = "text/x-python"

// Handler serves every path that ends in /upload.py, and /api/v1/. It takes
// clean paths: whoever serves several rooms on one port cleans them for all.
func (s *Server) Handler() http.Handler {
	mux := s.apiRoutes()
	return s.recovered(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/upload.py") {
			s.takeUpload(w, r)
			return
		}
		if err := limitReading(w, apiTime); err != nil {
			s.answerError(w, err)
			return
		}
		mux.ServeHTTP(w, r)
	}))
}

// apiTime is the longest time that the body of an API request may take.
const apiTime = 30 * time.Second

// limitReading ends a body that trickles. Only a real connection has
// deadlines; a test's recorder has none and needs none.
func limitReading(w http.ResponseWriter, most time.Duration) error {
	return supported(http.NewResponseController(w).SetReadDeadline(time.Now().Add(most)))
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
			if strings.HasSuffix(r.URL.Path, "/upload.py") {
				answerRefusal(w, http.StatusInternalServerError, message)
			} else {
				answerJSON(w, http.StatusInternalServerError, errorBody{Error: message})
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

// errorBody is the JSON of an error.
type errorBody struct {
	Error    string    `json:"error"`
	Problems []Problem `json:"problems,omitempty"` // of configuration files that were refused
}

// answerError answers an API request that failed.
func (s *Server) answerError(w http.ResponseWriter, err error) {
	body := errorBody{Error: err.Error()}
	var broken *brokenFiles
	if errors.As(err, &broken) {
		body.Problems = broken.problems
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
