package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"edeploy/server/api"
	"edeploy/server/internal/allocation"
	"edeploy/server/internal/fileset"
	"edeploy/server/internal/refusal"
	"edeploy/server/internal/store"
)

// maxEditors bounds the requests that bring configuration files, which are
// kept in memory while they are checked.
const maxEditors = 4

// maxSetBytes bounds the JSON of a set of files: its texts may have
// fileset.MaxBytes, and each of their line ends takes two bytes.
const maxSetBytes = 2 * fileset.MaxBytes

// listConfig answers GET /api/v1/config.
func (s *Server) listConfig(w http.ResponseWriter, r *http.Request) {
	all := []api.ConfigFile{}
	sections := s.allSections()
	slices.Sort(sections)
	for _, section := range sections {
		infos, err := s.documents.Infos(allocation.Collection(section))
		if err != nil {
			s.answerError(w, refusal.New(refusal.Broken, "%v", err))
			return
		}
		for _, is := range infos {
			name := strings.TrimPrefix(is.Name, allocation.Collection(section)+"/")
			if _, err := fileset.ParseName(name); err == nil {
				all = append(all, api.ConfigFile{Section: section, Name: name, Bytes: is.Bytes, Modified: is.Modified})
			}
		}
	}
	answerJSON(w, http.StatusOK, all)
}

// showConfigFile answers one file as it is; its ETag is its version.
func (s *Server) showConfigFile(w http.ResponseWriter, r *http.Request) {
	d, name, err := s.configFile(r)
	if err != nil {
		s.answerError(w, err)
		return
	}
	doc, err := s.documents.Get(allocation.Collection(d.name) + "/" + name.String())
	switch {
	case errors.Is(err, store.ErrNotExist):
		s.answerError(w, refusal.New(refusal.NoFile, "deployment %s has no file %s", d.name, name))
		return
	case err != nil:
		s.answerError(w, refusal.New(refusal.Broken, "%v", err))
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff") // it is never a web page, whatever it holds
	h.Set("Cache-Control", "no-store")
	h.Set("ETag", etag(doc.Version))
	_, _ = w.Write(doc.Text) // the client is gone: it asks again
}

// putConfigFile replaces one file, or makes it.
func (s *Server) putConfigFile(w http.ResponseWriter, r *http.Request) {
	s.edit(w, r, func(d *deployment, name fileset.Name) (replacement, error) {
		if err := mayWrite(name); err != nil {
			return replacement{}, err
		}
		text, err := readBody(w, r, fileset.MaxFileBytes, name.String())
		return replacement{files: map[fileset.Name]string{name: string(text)}}, err
	})
}

// deleteConfigFile removes one file.
func (s *Server) deleteConfigFile(w http.ResponseWriter, r *http.Request) {
	s.edit(w, r, func(_ *deployment, name fileset.Name) (replacement, error) {
		return replacement{remove: []fileset.Name{name}}, nil
	})
}

// edit is what the changes of one file have in common.
func (s *Server) edit(w http.ResponseWriter, r *http.Request, wish func(*deployment, fileset.Name) (replacement, error)) {
	d, name, err := s.configFile(r)
	if err != nil {
		s.answerError(w, err)
		return
	}
	s.answerReplacement(w, r, name.String(), func() (replacement, error) {
		q, err := wish(d, name)
		q.deployment, q.expect = d, expected(r.Header.Get("If-Match"))
		return q, err
	})
}

// putConfigFiles replaces several files together.
func (s *Server) putConfigFiles(w http.ResponseWriter, r *http.Request) {
	s.answerReplacement(w, r, "", func() (replacement, error) {
		d, err := s.configSection(r)
		if err != nil {
			return replacement{}, err
		}
		body, err := readBody(w, r, maxSetBytes, "the set of files")
		if err != nil {
			return replacement{}, err
		}
		q, err := readSet(body)
		q.deployment = d
		return q, err
	})
}

// answerReplacement makes a change and answers what became of it; name is the
// file whose version is answered.
func (s *Server) answerReplacement(w http.ResponseWriter, r *http.Request, name string, wish func() (replacement, error)) {
	leave, err := s.editors.Enter(r.Context(), peerOf(r))
	if err != nil {
		s.answerError(w, err)
		return
	}
	defer leave()
	q, err := wish()
	if err != nil {
		w.Header().Set("Connection", "close") // what is left of the body may be large
		s.answerError(w, err)
		return
	}
	q.force = r.URL.Query().Get("force") == "1"
	out, versions, err := s.replace(r.Context(), q)
	if err != nil {
		s.answerError(w, err)
		return
	}
	if version, ok := versions[name]; ok {
		w.Header().Set("ETag", etag(version))
	}
	answerJSON(w, http.StatusOK, out)
}

func (s *Server) configSection(r *http.Request) (*deployment, error) {
	section := r.PathValue("section")
	d := s.deployments[section]
	if d == nil {
		return nil, refusal.New(refusal.NoFile, "edeploy.conf has no section %q", refusal.Clip(section, 100))
	}
	return d, nil
}

// configFile reads which file a request is about.
func (s *Server) configFile(r *http.Request) (*deployment, fileset.Name, error) {
	d, err := s.configSection(r)
	if err != nil {
		return nil, fileset.Name{}, err
	}
	name, err := fileset.ParseName(r.PathValue("name"))
	if err != nil {
		return nil, name, refusal.New(refusal.Input, "%v", err)
	}
	return d, name, nil
}

// mayWrite refuses what only the server writes.
func mayWrite(name fileset.Name) error {
	if name.Kind == fileset.Original {
		return refusal.New(refusal.Input, "%s is written by the server: bring %s%s", name, name.Profile, fileset.CMDB)
	}
	return nil
}

// readBody reads a bounded body.
func readBody(w http.ResponseWriter, r *http.Request, most int64, what string) ([]byte, error) {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, refusal.New(refusal.TooLarge, "%s may have %d bytes", what, most)
	case err != nil:
		return nil, refusal.New(refusal.Input, "read %s: %v", what, err)
	}
	return text, nil
}

// readSet reads the JSON of several files.
func readSet(body []byte) (replacement, error) {
	var set api.ConfigSet
	if !utf8.Valid(body) { // the decoder would quietly replace it
		return replacement{}, refusal.New(refusal.Input, "the body is no UTF-8 text")
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&set); err != nil {
		return replacement{}, refusal.New(refusal.Input, "want a body such as {\"files\": {\"vm.specs\": \"...\"}, \"prune\": false}: %v", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return replacement{}, refusal.New(refusal.Input, "the body goes on behind its JSON object")
	}
	return newReplacement(set)
}

// newReplacement checks names and sizes.
func newReplacement(set api.ConfigSet) (replacement, error) {
	q := replacement{files: map[fileset.Name]string{}, prune: set.Prune}
	total := 0
	for file, text := range set.Files {
		name, err := fileset.ParseName(file)
		if err != nil {
			return q, refusal.New(refusal.Input, "%v", err)
		}
		if err := mayWrite(name); err != nil {
			return q, err
		}
		if len(text) > fileset.MaxFileBytes {
			return q, refusal.New(refusal.TooLarge, "%s may have %d bytes", name, fileset.MaxFileBytes)
		}
		total += len(text)
		q.files[name] = text
	}
	switch {
	case total > fileset.MaxBytes:
		return q, refusal.New(refusal.TooLarge, "the files may have %d bytes in all", fileset.MaxBytes)
	case len(q.files) == 0:
		return q, refusal.New(refusal.Input, "there are no files in the set")
	}
	return q, nil
}

func etag(v store.Version) string { return `"` + string(v) + `"` }

// expected reads an If-Match header (RFC 9110 section 13.1.1): one of the
// versions in it, or with "*" any, must be there. Without a header, nil.
func expected(header string) func(store.Version) bool {
	if strings.TrimSpace(header) == "" {
		return nil
	}
	return func(is store.Version) bool {
		if is == store.Absent {
			return false
		}
		for one := range strings.SplitSeq(header, ",") {
			if one = strings.TrimSpace(one); one == "*" || one == etag(is) {
				return true
			}
		}
		return false
	}
}
