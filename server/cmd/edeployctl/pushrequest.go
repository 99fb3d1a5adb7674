package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// retry repeats attempt while it fails with errBroken, until patience runs out
// without progress.
func (p *push) retry(ctx context.Context, attempt func() (progressed bool, err error)) error {
	last := time.Now()
	wait := 200 * time.Millisecond
	for {
		progressed, err := attempt()
		if err == nil {
			return nil
		}
		if !errors.Is(err, errBroken) || ctx.Err() != nil {
			return err
		}
		if progressed {
			last, wait = time.Now(), 200*time.Millisecond
		}
		if time.Since(last) > p.patience {
			return fmt.Errorf("given up after %v: %w", p.patience, err)
		}
		p.show.note("waiting to continue", err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
		wait = min(2*wait, 5*time.Second)
	}
}

// do sends one request; a connection that fails is errBroken.
func (p *push) do(ctx context.Context, method, url string, body io.Reader, header map[string]string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, err
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBroken, err)
	}
	return resp, nil
}

// answerError is what the appliance says in an answer that is not good.
func answerError(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var answer struct{ Error string }
	if json.Unmarshal(text, &answer) != nil || answer.Error == "" {
		answer.Error = strings.TrimSpace(fmt.Sprintf("%s %.200s", resp.Status, bytes.TrimSpace(text)))
	}
	if resp.StatusCode == http.StatusConflict && resp.Header.Get("Upload-Offset") != "" || resp.Header.Get("Retry-After") != "" ||
		resp.StatusCode >= 500 && resp.StatusCode != http.StatusInsufficientStorage {
		return fmt.Errorf("%w: %s", errBroken, answer.Error)
	}
	return errors.New(answer.Error)
}
