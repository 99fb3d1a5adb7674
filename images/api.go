package images

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"edeploy/images/internal/catalog"
	"edeploy/server/api"
	"edeploy/server/share"
	"edeploy/server/wire"
)

// uploads is the resource of unfinished uploads.
const uploads = "uploads"

// serveAPI answers below /api/v1/images/:
//
//	GET                                   all images
//	GET, DELETE  VERSION/ROLE             one image
//	HEAD, PATCH  VERSION/ROLE/archive     resumable upload; likewise manifest
//	POST         VERSION/ROLE/publish     unpack, verify, make visible
//	DELETE       VERSION/ROLE/uploads     forget what is not published
//	GET          uploads                  all that is not published
//	GET          metadata                 all upgrades
//	GET          FROM/ROLE/metadata       upgrades of one image
//	GET, PUT, DELETE  FROM/ROLE/metadata/TO  one upgrade
func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request, rest string) {
	if rest == "" {
		if allow(w, r, http.MethodGet) {
			s.list(w)
		}
		return
	}
	switch rest {
	case catalog.MetadataDir:
		s.upgrades(w, r, s.catalog.Upgrades)
		return
	case uploads:
		s.unfinished(w, r)
		return
	}
	words := strings.SplitN(rest, "/", 5)
	if len(words) < 2 || len(words) > 3 && words[2] != catalog.MetadataDir || len(words) > 4 {
		apiError(w, http.StatusNotFound, fmt.Errorf("no such resource: want VERSION/ROLE, or VERSION/ROLE/ and one of archive, manifest, publish, uploads, metadata"))
		return
	}
	ref, err := wire.NewImageRef(words[1], words[0])
	if err != nil {
		apiError(w, http.StatusBadRequest, err)
		return
	}
	if len(words) == 4 {
		s.upgrade(w, r, ref, words[3])
		return
	}
	action := ""
	if len(words) == 3 {
		action = words[2]
	}
	switch action {
	case "":
		s.image(w, r, ref)
	case string(api.PartArchive), string(api.PartManifest):
		s.part(w, r, ref, api.Part(action))
	case "publish":
		if allow(w, r, http.MethodPost) {
			s.publish(w, r, ref)
		}
	case uploads:
		if allow(w, r, http.MethodDelete) {
			s.forget(w, r, ref)
		}
	case catalog.MetadataDir:
		s.upgrades(w, r, func() ([]api.Upgrade, error) { return s.catalog.UpgradesFrom(ref) })
	default:
		apiError(w, http.StatusNotFound, fmt.Errorf("no such resource %q: want archive, manifest, publish, uploads or metadata", action))
	}
}

func allow(w http.ResponseWriter, r *http.Request, methods ...string) bool {
	for _, m := range methods {
		if r.Method == m {
			return true
		}
	}
	w.Header().Set("Allow", strings.Join(methods, ", "))
	apiError(w, http.StatusMethodNotAllowed, fmt.Errorf("method %s is not allowed here", r.Method))
	return false
}

func (s *Server) list(w http.ResponseWriter) {
	images, err := s.catalog.List()
	s.answer(w, images, err)
}

func (s *Server) image(w http.ResponseWriter, r *http.Request, ref wire.ImageRef) {
	if !allow(w, r, http.MethodGet, http.MethodDelete) {
		return
	}
	if r.Method == http.MethodDelete {
		if err := s.catalog.Delete(ref); err != nil {
			s.fail(w, err)
			return
		}
		s.log.Info("image deleted", "image", ref.String(), "peer", r.RemoteAddr)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	image, err := s.catalog.Get(ref)
	s.answer(w, image, err)
}

func (s *Server) part(w http.ResponseWriter, r *http.Request, ref wire.ImageRef, part api.Part) {
	if !allow(w, r, http.MethodHead, http.MethodPatch) {
		return
	}
	if r.Method == http.MethodHead {
		u, err := s.catalog.Upload(ref, part)
		if err != nil {
			s.fail(w, err)
			return
		}
		writeUpload(w, u)
		w.WriteHeader(http.StatusOK)
		return
	}
	if leave, ok := s.admit(w, r); ok {
		defer leave()
		s.receive(w, r, ref, part)
	}
}

// admit takes one more upload, which ends with leave, or answers that there
// are too many.
func (s *Server) admit(w http.ResponseWriter, r *http.Request) (leave func(), ok bool) {
	leave, err := s.uploads.Try(share.Peer(r.RemoteAddr))
	if err != nil {
		w.Header().Set("Retry-After", "5")
		apiError(w, http.StatusServiceUnavailable, fmt.Errorf("more uploads are not taken now: %w", err))
	}
	return leave, err == nil
}

func (s *Server) unfinished(w http.ResponseWriter, r *http.Request) {
	if !allow(w, r, http.MethodGet) {
		return
	}
	found, err := s.catalog.Unfinished()
	s.answer(w, found, err)
}

func (s *Server) forget(w http.ResponseWriter, r *http.Request, ref wire.ImageRef) {
	if err := s.catalog.Forget(ref); err != nil {
		s.fail(w, err)
		return
	}
	s.log.Info("unfinished uploads deleted", "image", ref.String(), "peer", r.RemoteAddr)
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) receive(w http.ResponseWriter, r *http.Request, ref wire.ImageRef, part api.Part) {
	want, err := readUpload(r)
	if err != nil {
		apiError(w, http.StatusBadRequest, err)
		return
	}
	want.Peer = share.Peer(r.RemoteAddr).String()
	have, err := s.catalog.Receive(ref, part, want, uploaded{r.Body})
	writeUpload(w, have)
	if err != nil {
		s.log.Warn("upload", "image", ref.String(), "part", string(part), "offset", have.Offset, "peer", r.RemoteAddr, "err", err)
		s.fail(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// errSlow ends a body that stays behind the pace which the appliance gives all
// requests. What arrived stays.
var errSlow = errors.New("the upload is too slow, its place is given to others: continue it later")

// uploaded is a body that says what its time limit means.
type uploaded struct{ io.Reader }

func (u uploaded) Read(b []byte) (int, error) {
	n, err := u.Reader.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = errSlow
	}
	return n, err
}

func readUpload(r *http.Request) (catalog.Upload, error) {
	u := catalog.Upload{SHA256: r.Header.Get(api.HeaderSHA256)}
	for name, field := range map[string]*int64{api.HeaderOffset: &u.Offset, api.HeaderLength: &u.Length} {
		n, err := strconv.ParseInt(r.Header.Get(name), 10, 64)
		if err != nil || n < 0 {
			return u, fmt.Errorf("header %s: %q is not a number of bytes", name, r.Header.Get(name))
		}
		*field = n
	}
	return u, nil
}

func writeUpload(w http.ResponseWriter, u catalog.Upload) {
	if u.Length == 0 {
		return
	}
	w.Header().Set(api.HeaderOffset, strconv.FormatInt(u.Offset, 10))
	w.Header().Set(api.HeaderLength, strconv.FormatInt(u.Length, 10))
	w.Header().Set(api.HeaderSHA256, u.SHA256)
}

// publish answers a line of JSON for each step; the last one is done or error.
// What can be refused before the work starts is refused by status.
func (s *Server) publish(w http.ResponseWriter, r *http.Request, ref wire.ImageRef) {
	start := time.Now()
	out := &lines{w: w, rc: http.NewResponseController(w)}
	image, err := s.catalog.Publish(r.Context(), ref, share.Peer(r.RemoteAddr).String(), out.write)
	if err != nil {
		s.log.Warn("publish image", "image", ref.String(), "peer", r.RemoteAddr, "err", err)
		if !out.started {
			s.fail(w, err)
			return
		}
		out.write(api.Publishing{Step: "error", Error: err.Error()})
		return
	}
	s.log.Info("image published", "image", ref.String(), "entries", image.Entries, "bytes", image.Bytes,
		"peer", r.RemoteAddr, "seconds", time.Since(start).Seconds())
	out.write(api.Publishing{Step: "done", Image: &image})
}

// lines writes JSON lines and sends each at once.
type lines struct {
	w       http.ResponseWriter
	rc      *http.ResponseController
	started bool
}

func (l *lines) write(p api.Publishing) {
	if !l.started {
		l.started = true
		l.w.Header().Set("Content-Type", "application/x-ndjson")
	}
	// A client that is gone ends the request's context; no need to notice here.
	if json.NewEncoder(l.w).Encode(p) == nil {
		l.rc.Flush()
	}
}

// answer answers what was asked for, or why there is none.
func (s *Server) answer(w http.ResponseWriter, v any, err error) {
	if err != nil {
		s.fail(w, err)
		return
	}
	writeJSON(w, http.StatusOK, v)
}

// fail answers an error with the status that fits it.
func (s *Server) fail(w http.ResponseWriter, err error) {
	var offset *catalog.OffsetError
	switch {
	case errors.Is(err, catalog.ErrNotFound), errors.Is(err, catalog.ErrNoUpgrade), errors.Is(err, fs.ErrNotExist):
		apiError(w, http.StatusNotFound, err)
	case errors.As(err, &offset):
		w.Header().Set(api.HeaderOffset, strconv.FormatInt(offset.Have, 10))
		apiError(w, http.StatusConflict, err)
	case errors.Is(err, catalog.ErrBusy):
		w.Header().Set("Retry-After", "5")
		apiError(w, http.StatusConflict, err)
	case errors.Is(err, catalog.ErrExists), errors.Is(err, catalog.ErrAnother):
		apiError(w, http.StatusConflict, err)
	case errors.Is(err, errSlow):
		w.Header().Set("Retry-After", "5")
		apiError(w, http.StatusServiceUnavailable, err)
	case errors.Is(err, catalog.ErrInvalid):
		apiError(w, http.StatusBadRequest, err)
	case errors.Is(err, catalog.ErrNoSpace):
		apiError(w, http.StatusInsufficientStorage, err)
	default:
		apiError(w, http.StatusUnprocessableEntity, err)
	}
}

func apiError(w http.ResponseWriter, status int, err error) {
	writeJSON(w, status, api.Refusal{Error: err.Error()})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}
