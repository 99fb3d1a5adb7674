// Package client is the agent's side of the HTTP conversation with the
// server: the hardware upload, failure reports, logs and step reports
// (reference section 4). The server is an appliance that may be power-cut at
// any time, so everything that matters is sent again until it is answered.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"edeploy/agent/internal/retry"
	"edeploy/server/wire"
)

// Limits of an answer and of one attempt. A configuration is a script of some
// kilobytes; reference section 2.9 gives the server 120 s for it, waiting for
// its lock included.
const (
	maxAnswerBytes = 4 << 20
	attemptTime    = 120 * time.Second
	reportTime     = 10 * time.Second
)

// Client talks to one server. Zero fields have the defaults named beside them.
type Client struct {
	Args wire.BootArgs // where the server is, and the deployment's section
	HTTP *http.Client  // default: no proxy, 10 s to connect, no redirects
	Log  *slog.Logger  // nil is silence

	FirstPause   time.Duration // before the second attempt; default 1 s, doubled each time
	LongestPause time.Duration // default 10 s
	Patience     time.Duration // how long to wait for a server that does not answer; default 1 h
}

// Refused is an answer that is not a success: the server was there and said no.
type Refused struct {
	Status  int    // HTTP status
	Message string // the server's sentence
}

func (r *Refused) Error() string {
	if r.Message == "" {
		return fmt.Sprintf("HTTP status %d", r.Status)
	}
	return r.Message
}

// Temporary says that asking again later may help.
func (r *Refused) Temporary() bool { return retry.Temporary(r.Status) }

var direct = &http.Client{
	Transport: &http.Transport{
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 5 * time.Second}).DialContext,
		ResponseHeaderTimeout: attemptTime,
		// The appliance may restart between two requests.
		DisableKeepAlives: true,
	},
	// The original's agent does not follow redirects either.
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func (c *Client) http() *http.Client {
	if c.HTTP != nil {
		return c.HTTP
	}
	return direct
}

func (c *Client) log() *slog.Logger {
	if c.Log != nil {
		return c.Log
	}
	return slog.New(slog.DiscardHandler)
}

// Configuration uploads the hardware description and returns the answer. It
// asks again as long as the server does not answer; a refusal (no profile
// fits, no count left) ends it with a *Refused.
func (c *Client) Configuration(ctx context.Context, hw wire.Hardware) (wire.Configuration, error) {
	form, err := hardwareForm(c.Args.Section, "", hw)
	if err != nil {
		return wire.Configuration{}, err
	}
	answer, err := c.upload(ctx, "upload", form)
	if err != nil {
		return wire.Configuration{}, fmt.Errorf("upload to %s: %w", c.Args.UploadURL(), err)
	}
	return readAnswer(answer)
}

// readAnswer understands this server's answers and those of an original one,
// which sends its refusals with status 200 (reference section 4.4).
func readAnswer(answer string) (wire.Configuration, error) {
	if strings.TrimSpace(answer) == "" {
		return wire.Configuration{}, &Refused{http.StatusOK, "the server's answer is empty: no profile fits this machine"}
	}
	conf, err := wire.ParseConfiguration(answer)
	if err != nil && strings.HasPrefix(answer, "#!/bin/sh") {
		return conf, &Refused{http.StatusOK, wire.ParseRefusal(answer)}
	}
	return conf, err
}

// Failure gives back what the server reserved for this machine: a report that
// the installation of the profile failed (reference section 4.7).
func (c *Client) Failure(ctx context.Context, profile string, hw wire.Hardware) error {
	form, err := hardwareForm(c.Args.Section, profile, hw)
	if err != nil {
		return err
	}
	_, err = c.upload(ctx, "failure report", form)
	return err
}

// UploadLog sends a gzip-compressed log; name ends with ".log.gz".
func (c *Client) UploadLog(ctx context.Context, name string, gzipped []byte) error {
	form, err := encodeForm(c.Args.Section, "", name, gzipped)
	if err != nil {
		return err
	}
	_, err = c.upload(ctx, "log upload", form)
	return err
}

func (c *Client) upload(ctx context.Context, what string, f form) (answer string, err error) {
	err = c.retry(ctx, what, func(ctx context.Context) error {
		answer, err = c.post(ctx, c.Args.UploadURL(), f, attemptTime)
		return err
	})
	return answer, err
}

// Report sends one report, in one attempt.
func (c *Client) Report(ctx context.Context, r wire.Report) error {
	var body bytes.Buffer
	if err := wire.EncodeReport(&body, r); err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	_, err := c.post(ctx, c.Args.ReportURL(), form{body.Bytes(), "application/json"}, reportTime)
	return err
}

// OrderWipe asks whether the disks of this machine are to be erased, until the
// server answers. That they are not is a *Refused.
func (c *Client) OrderWipe(ctx context.Context, is wire.Identity) (order wire.WipeOrder, err error) {
	body, err := json.Marshal(is)
	if err != nil {
		return order, fmt.Errorf("encode identity: %w", err)
	}
	var answer string
	err = c.retry(ctx, "wipe", func(ctx context.Context) error {
		answer, err = c.post(ctx, c.Args.WipeURL(), form{body, "application/json"}, attemptTime)
		return err
	})
	if err != nil {
		return order, err
	}
	if err := json.Unmarshal([]byte(answer), &order); err != nil {
		return order, fmt.Errorf("read the answer of %s: %w", c.Args.WipeURL(), err)
	}
	return order, nil
}

// Keys asks, in one attempt, who may log in while the agent runs. Nobody is a
// *Refused with status 404.
func (c *Client) Keys(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, reportTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Args.KeysURL(), nil)
	if err != nil {
		return nil, err
	}
	answer, err := c.send(request)
	return []byte(answer), err
}

// Deliver sends one report until the server has acknowledged it.
func (c *Client) Deliver(ctx context.Context, r wire.Report) error {
	return c.retry(ctx, "report", func(ctx context.Context) error { return c.Report(ctx, r) })
}

// retry calls try until it succeeds, is refused for good, or the patience is
// over. It logs what it waits for.
func (c *Client) retry(ctx context.Context, what string, try func(context.Context) error) error {
	wait := retry.Policy{First: c.FirstPause, Longest: c.LongestPause, Limit: c.Patience, Tell: func(cause error, pause, without time.Duration) {
		c.log().Warn(fmt.Sprintf("%s: waiting for the server %s (%v), next try in %s, since %s",
			what, c.Args.Serv, cause, pause.Round(time.Millisecond), without.Round(time.Second)))
	}}.Start()
	return wait.Do(ctx, func() (final bool, err error) {
		if err = try(ctx); err == nil || !again(err) {
			return true, err
		}
		return false, retry.Cause(err)
	})
}

func again(err error) bool {
	var refused *Refused
	if errors.As(err, &refused) {
		return refused.Temporary()
	}
	var bad *url.Error
	return !errors.As(err, &bad) || bad.Op != "parse"
}

type form struct {
	body        []byte
	contentType string
}

func hardwareForm(section, failure string, hw wire.Hardware) (form, error) {
	var file bytes.Buffer
	if err := wire.EncodeHardware(&file, hw); err != nil {
		return form{}, err
	}
	return encodeForm(section, failure, "hw.json", file.Bytes())
}

// encodeForm writes the multipart form of reference section 4.2.
func encodeForm(section, failure, name string, file []byte) (form, error) {
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	err := w.WriteField("section", section)
	if failure != "" {
		err = errors.Join(err, w.WriteField("failure", failure))
	}
	part, partErr := w.CreateFormFile("file", name)
	if err = errors.Join(err, partErr); err != nil {
		return form{}, fmt.Errorf("encode upload form: %w", err)
	}
	_, err = part.Write(file)
	if err = errors.Join(err, w.Close()); err != nil {
		return form{}, fmt.Errorf("encode upload form: %w", err)
	}
	return form{body.Bytes(), w.FormDataContentType()}, nil
}

// post sends one request and returns the body of a 2xx answer; any other
// answer is a *Refused, and no answer is the transport's error.
func (c *Client) post(ctx context.Context, url string, f form, limit time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(f.body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", f.contentType)
	return c.send(req)
}

// send makes a request and reads its answer.
func (c *Client) send(req *http.Request) (string, error) {
	resp, err := c.http().Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes+1))
	if err != nil {
		return "", fmt.Errorf("read answer: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		return "", &Refused{resp.StatusCode, wire.ParseRefusal(string(body[:min(len(body), 64<<10)]))}
	}
	if len(body) > maxAnswerBytes {
		return "", &Refused{resp.StatusCode, fmt.Sprintf("the server's answer is larger than %d bytes", maxAnswerBytes)}
	}
	return string(body), nil
}
