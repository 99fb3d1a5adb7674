package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode"
)

// Client asks an appliance. Its fields are set before its first use; then
// several may use it at once.
type Client struct {
	Address string         // of the appliance: a host, host:port or URL
	Scheme  string         // of an Address that names none; "": http
	CA      *x509.CertPool // who signs the certificate of an https server; nil: whom this host trusts
	Timeout time.Duration  // of a question with its answer; 0: 90 s, changes wait up to a minute for their turn

	// Dial opens connections; nil: as http.DefaultTransport does.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	once sync.Once
	http *http.Client
}

// maxAnswer bounds an answer: some thousand machines.
const maxAnswer = 64 << 20

// ErrNoAddress: Client.Address is empty. It is told in the words of edeployctl.
var ErrNoAddress = errors.New("which server? Give --server or set EDEPLOY_SERVER")

// Error is an answer that is no success.
type Error struct {
	Code     int       // HTTP status
	Problems []Problem // of configuration files that were refused

	sentence string
	passes   bool
}

// Error is the sentence of the appliance, without what could steer a terminal.
func (e *Error) Error() string { return e.sentence }

// StatusOf is the HTTP status of an answer that was an error, else 0.
func StatusOf(err error) int {
	var answer *Error
	if errors.As(err, &answer) {
		return answer.Code
	}
	return 0
}

// newError reads such an answer.
func newError(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // what came is looked at
	e := &Error{Code: resp.StatusCode, sentence: "the server answers " + resp.Status}
	var body Refusal
	if json.Unmarshal(text, &body) == nil && body.Error != "" {
		e.Problems = body.Problems
		e.sentence = strings.Map(func(c rune) rune {
			if unicode.IsControl(c) && c != '\n' {
				return -1
			}
			return c
		}, body.Error)
	}
	e.passes = resp.Header.Get("Retry-After") != "" || e.Code == http.StatusConflict && resp.Header.Get(HeaderOffset) != "" ||
		e.Code >= 500 && e.Code != http.StatusInsufficientStorage
	return e
}

// silence is the error about an appliance that does not answer, or not to the
// end.
type silence struct {
	sentence string
	cause    error
}

func (e *silence) Error() string { return e.sentence }
func (e *silence) Unwrap() error { return e.cause }

func newSilence(ctx context.Context, method, base string, err error) error {
	var is *url.Error
	if errors.As(err, &is) {
		err = is.Err
	}
	var late *silence
	switch {
	case errors.As(context.Cause(ctx), &late):
		return late
	case !errors.Is(ctx.Err(), context.Canceled):
		return &silence{fmt.Sprintf("%s does not answer: %v", base, err), err}
	case method == http.MethodGet || method == http.MethodHead:
		return &silence{"interrupted", err}
	}
	return &silence{"interrupted: the server may have done it all the same", err}
}

// Do sends a request to a path of the appliance and answers a response of
// status 2xx, whose body is the caller's to close. Any other is an *Error. Only
// ctx bounds the time.
func (c *Client) Do(ctx context.Context, method, path string, header http.Header, body io.Reader) (*http.Response, error) {
	base, err := c.base()
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, base+path, body)
	if err != nil {
		return nil, err
	}
	if header != nil {
		req.Header = header
	}
	c.once.Do(c.connect)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, newSilence(ctx, method, base, err)
	}
	if resp.StatusCode/100 != 2 {
		defer resp.Body.Close()
		return nil, newError(resp)
	}
	return resp, nil
}

// connect makes the HTTP client; clients without settings share connections.
func (c *Client) connect() {
	c.http = http.DefaultClient
	if c.CA == nil && c.Dial == nil {
		return
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if c.CA != nil {
		transport.TLSClientConfig = &tls.Config{RootCAs: c.CA}
	}
	if c.Dial != nil {
		transport.DialContext, transport.Proxy = c.Dial, nil
	}
	c.http = &http.Client{Transport: transport}
}

// base is the URL of the appliance, without a slash at its end.
func (c *Client) base() (string, error) {
	address := c.Address
	switch {
	case address == "":
		return "", ErrNoAddress
	case !strings.Contains(address, "://") && c.Scheme != "":
		address = c.Scheme + "://" + address
	case !strings.Contains(address, "://"):
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return "", fmt.Errorf("server %q is neither a URL nor a host", address)
	}
	return strings.TrimSuffix(u.String(), "/"), nil
}

// exchange is Do for a bounded answer in a bounded time; 0: that of the client.
func (c *Client) exchange(ctx context.Context, most time.Duration, method, path string, header http.Header, send []byte) ([]byte, http.Header, error) {
	if most == 0 {
		most = c.Timeout
	}
	if most == 0 {
		most = 90 * time.Second
	}
	base, err := c.base()
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, most, &silence{fmt.Sprintf("%s has not answered in %v", base, most), context.DeadlineExceeded})
	defer cancel()
	resp, err := c.Do(ctx, method, path, header, bytes.NewReader(send))
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, nil, &silence{fmt.Sprintf("read the answer of %s: %v", base, err), err}
	}
	return text, resp.Header, nil
}

// Raw is the JSON at a path, as it is.
func (c *Client) Raw(ctx context.Context, path string) ([]byte, error) {
	text, _, err := c.exchange(ctx, 0, http.MethodGet, path, nil, nil)
	if err != nil {
		return nil, err
	}
	return text, c.decode(path, text, new(json.RawMessage))
}

// decode reads an answer.
func (c *Client) decode(path string, text []byte, answer any) error {
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("%s answers something that is not from an eDeploy server: %w", c.Address+path, err)
	}
	return nil
}

// ask asks in JSON; a nil body sends none.
func ask[T any](ctx context.Context, c *Client, method, path string, body any) (answer T, err error) {
	var send []byte
	if body != nil {
		if send, err = json.Marshal(body); err != nil {
			return answer, err
		}
	}
	text, _, err := c.exchange(ctx, 0, method, path, http.Header{"Content-Type": {"application/json"}}, send)
	if err != nil {
		return answer, err
	}
	return answer, c.decode(path, text, &answer)
}

// ErrNotNow is wrapped by what may pass by itself: the connection or an answer
// broke off, or the appliance is busy for the moment.
var ErrNotNow = errors.New("not now")

// Retry repeats an attempt while its error may pass by itself, until patience
// runs out without progress: after 200 ms, then ever more seldom, at last every
// 5 s. waiting is told why nothing goes on.
func Retry(ctx context.Context, patience time.Duration, waiting func(error), attempt func() (progressed bool, err error)) error {
	const first = 200 * time.Millisecond
	last, wait := time.Now(), first
	for {
		progressed, err := attempt()
		var answer *Error
		if errors.As(err, new(*silence)) || errors.As(err, &answer) && answer.passes {
			err = fmt.Errorf("%w: %w", ErrNotNow, err)
		}
		if !errors.Is(err, ErrNotNow) || ctx.Err() != nil {
			return err
		}
		if progressed {
			last, wait = time.Now(), first
		}
		if time.Since(last) > patience {
			return fmt.Errorf("given up after %v: %w", patience, err)
		}
		waiting(err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
		wait = min(2*wait, 5*time.Second)
	}
}
