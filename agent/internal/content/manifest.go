package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"edeploy/images/manifest"
	"edeploy/server/wire"
)

// Manifest fetches the manifest of an image. It crosses the wire compressed
// when the server can do that.
func (s *Server) Manifest(ctx context.Context, image wire.ImageRef) (*manifest.Manifest, error) {
	var m *manifest.Manifest
	u := s.at(image.Manifest())
	try := func() error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		watchdog := time.AfterFunc(s.config.Silence, cancel)
		defer watchdog.Stop()
		req := (&http.Request{Method: http.MethodGet, URL: u,
			Header: http.Header{"User-Agent": {"edeploy"}, "Accept-Encoding": {"zstd"}}}).WithContext(ctx)
		answer, err := s.client.Do(req)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if err := judge(answer); err != nil {
			return err
		}
		m, err = decode(&alive{answer.Body, watchdog, s.config.Silence}, answer.Header.Get("Content-Encoding"))
		return err
	}
	began := time.Now()
	err := try()
	if err != nil {
		err = s.persist(ctx, began, err, try)
	}
	if err != nil {
		return nil, named(u, err)
	}
	s.waits.over()
	return m, nil
}

// alive keeps an attempt alive as long as something comes.
type alive struct {
	io.Reader
	watchdog *time.Timer
	silence  time.Duration
}

func (a *alive) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p)
	if n > 0 {
		a.watchdog.Reset(a.silence)
	}
	return n, err
}

func decode(r io.Reader, encoding string) (*manifest.Manifest, error) {
	wire := &faithful{Reader: r}
	var text io.Reader = wire
	switch encoding {
	case "", "identity":
	case "zstd":
		d, err := decoder(wire)
		if err != nil {
			return nil, err
		}
		defer release(d)
		text = d
	default:
		return nil, &refused{fmt.Errorf("the server answers with the content coding %q", encoding)}
	}
	m, err := manifest.Read(text)
	switch {
	case wire.err != nil:
		return nil, wire.err // cut on its way: the text is not to blame
	case err != nil:
		return nil, &refused{err}
	}
	return m, nil
}

// faithful remembers how the wire failed.
type faithful struct {
	io.Reader
	err error
}

func (f *faithful) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		f.err = err
	}
	return n, err
}
