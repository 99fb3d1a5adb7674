package content

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"edeploy/agent/internal/fetch"
	"edeploy/server/api"
)

// maxListBytes bounds the list of images: some 200 bytes for each.
const maxListBytes = 16 << 20

// Images lists what the server has. It is asked once: this is for people to
// look at.
func (s *Server) Images(ctx context.Context) ([]api.Image, error) {
	u := s.base
	u.Path = "/api/v1/images"
	ctx, cancel := context.WithTimeout(ctx, s.config.Silence)
	defer cancel()
	req := (&http.Request{Method: http.MethodGet, URL: &u, Header: http.Header{"User-Agent": {"edeploy"}}}).WithContext(ctx)
	answer, err := s.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", &u, short(err))
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, named(&u, describe(&fetch.StatusError{Code: answer.StatusCode, Status: answer.Status}))
	}
	var found []api.Image
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxListBytes)).Decode(&found); err != nil {
		return nil, named(&u, err)
	}
	return found, nil
}
