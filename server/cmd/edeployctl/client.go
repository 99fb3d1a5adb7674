package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// callTime bounds one question to the server. Changes wait for the server's
// lock, at most a minute.
const callTime = 90 * time.Second

// maxAnswer bounds an answer: some thousand machines.
const maxAnswer = 64 << 20

// errNoServer: the operator has not said which server.
var errNoServer = errors.New("which server? Give --server or set EDEPLOY_SERVER")

// machinePath is the API path of one machine.
func machinePath(id string) string { return "/api/v1/machines/" + url.PathEscape(id) }

// call asks the server in JSON. A nil body sends none, a nil answer reads none.
func call(ctx context.Context, server, method, path string, body, answer any) error {
	text, err := fetch(ctx, server, method, path, body)
	if err != nil || answer == nil {
		return err
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("%s answers something that is not from an eDeploy server: %w", server+path, err)
	}
	return nil
}

// fetch is call for an answer of any kind.
func fetch(ctx context.Context, server, method, path string, body any) ([]byte, error) {
	if server == "" {
		return nil, errNoServer
	}
	base, err := baseURL(server)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	var send io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		send = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, base+path, send)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", base, err)
	}
	if resp.StatusCode/100 != 2 {
		return nil, &httpError{resp.Status, text}
	}
	return text, nil
}

// httpError is an answer other than 2xx.
type httpError struct {
	status string
	body   []byte
}

func (e *httpError) Error() string { return serverError(e.status, e.body) }

// serverError is the sentence in an answer that is an error.
func serverError(status string, text []byte) string {
	var body struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(text, &body) == nil && body.Error != "" {
		return printable(body.Error)
	}
	return "the server answers " + status
}
