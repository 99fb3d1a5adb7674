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

	"edeploy/server/wire"
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

// imagePath is the API path of an image, or of something of it.
func imagePath(ref wire.ImageRef, words ...string) string {
	path := "/api/v1/images/" + url.PathEscape(ref.Version) + "/" + url.PathEscape(ref.Role)
	for _, word := range words {
		path += "/" + url.PathEscape(word)
	}
	return path
}

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
	var send []byte
	if body != nil {
		var err error
		if send, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	text, _, err := exchange(ctx, server, method, path, http.Header{"Content-Type": {"application/json"}}, send)
	return text, err
}

// exchange sends a request, and answers the body and the header of a 2xx. It
// ends after callTime.
func exchange(ctx context.Context, server, method, path string, header http.Header, send []byte) ([]byte, http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	return exchangeSlowly(ctx, server, method, path, header, send)
}

// exchangeSlowly is exchange without a limit but that of ctx.
func exchangeSlowly(ctx context.Context, server, method, path string, header http.Header, send []byte) ([]byte, http.Header, error) {
	if server == "" {
		return nil, nil, errNoServer
	}
	base, err := baseURL(server)
	if err != nil {
		return nil, nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, base+path, bytes.NewReader(send))
	if err != nil {
		return nil, nil, err
	}
	req.Header = header
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, nil, silence(ctx, method, base, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, nil, fmt.Errorf("read the answer of %s: %w", base, err)
	}
	if resp.StatusCode/100 != 2 {
		return nil, nil, &httpError{resp.StatusCode, resp.Status, text}
	}
	return text, resp.Header, nil
}

// silence is the error about a server that does not answer.
func silence(ctx context.Context, method, base string, err error) error {
	var is *url.Error
	if errors.As(err, &is) {
		err = is.Err
	}
	switch {
	case errors.Is(ctx.Err(), context.Canceled) && method == http.MethodGet:
		return errors.New("interrupted")
	case errors.Is(ctx.Err(), context.Canceled):
		return errors.New("interrupted: the server may have done it all the same")
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("%s has not answered in %v", base, callTime)
	}
	return fmt.Errorf("%s does not answer: %w", base, err)
}

// httpError is an answer other than 2xx.
type httpError struct {
	code   int
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
