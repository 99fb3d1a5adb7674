package httpd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"edeploy/server/api"
	"edeploy/server/internal/configuration"
	"edeploy/server/internal/refusal"
	"edeploy/server/wire"
)

// maxAPIBytes bounds the body of an API request.
const maxAPIBytes = 4 << 10

// action does what an API request asks for and gives what is answered as JSON.
type action func(*http.Request) (any, error)

// json answers with what an action gives, or with why it gives nothing.
func (h *Handlers) json(status int, do action) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := do(r)
		if err != nil {
			h.answerError(w, err)
			return
		}
		answerJSON(w, status, v)
	}
}

// readJSON reads the small body of a request, which should be like the example.
func readJSON(r *http.Request, body any, example string) error {
	if err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxAPIBytes)).Decode(body); err != nil {
		return refusal.New(refusal.Input, "want a body such as %s: %v", example, err)
	}
	return nil
}

// statuses of refusals.
var statuses = map[refusal.Kind]int{
	refusal.Input:          http.StatusBadRequest,
	refusal.NoMatch:        http.StatusNotFound,
	refusal.UnknownMachine: http.StatusNotFound,
	refusal.NoFile:         http.StatusNotFound,
	refusal.Precondition:   http.StatusPreconditionFailed,
	refusal.Conflict:       http.StatusConflict,
	refusal.TooLarge:       http.StatusRequestEntityTooLarge,
	refusal.Forbidden:      http.StatusForbidden,
	refusal.Unusable:       http.StatusUnprocessableEntity,
	refusal.NoSpace:        http.StatusInsufficientStorage,
	refusal.Broken:         http.StatusServiceUnavailable,
	refusal.Busy:           http.StatusServiceUnavailable,
}

// answerError answers an API request that failed.
func (h *Handlers) answerError(w http.ResponseWriter, err error) {
	body := api.Refusal{Error: err.Error()}
	if broken, ok := errors.AsType[*configuration.BrokenFiles](err); ok {
		body.Problems = broken.Problems
	}
	answerJSON(w, h.failed(w, err), body)
}

// failed logs an error that is no refusal, and answers its status.
func (h *Handlers) failed(w http.ResponseWriter, err error) int {
	kind, ok := errors.AsType[refusal.Kind](err)
	if kind == refusal.Busy {
		w.Header().Set("Retry-After", "10")
	}
	if !ok {
		h.Log.Error("request failed", "error", err)
		return http.StatusInternalServerError
	}
	return statuses[kind]
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
	head(w, "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes()) // the client is gone: nothing to do
}

func answerScript(w http.ResponseWriter, status int, text string) {
	head(w, wire.ScriptType)
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) // the client is gone: it asks again
}

// head is the head of an answer: it is never a web page, whatever it holds.
func head(w http.ResponseWriter, contentType string) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
}
