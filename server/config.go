package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"edeploy/server/api"
	"edeploy/server/internal/allocation"
	"edeploy/server/internal/configuration"
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
	s.edit(w, r, func(d *deployment, name fileset.Name) (configuration.Replacement, error) {
		text, err := readBody(w, r, fileset.MaxFileBytes, name.String())
		if err != nil {
			return configuration.Replacement{}, err
		}
		return configuration.New(d.site, api.ConfigSet{Files: map[string]string{name.String(): string(text)}})
	})
}

// deleteConfigFile removes one file.
func (s *Server) deleteConfigFile(w http.ResponseWriter, r *http.Request) {
	s.edit(w, r, func(d *deployment, name fileset.Name) (configuration.Replacement, error) {
		return configuration.Replacement{Deployment: d.site, Remove: []fileset.Name{name}}, nil
	})
}

// edit is what the changes of one file have in common.
func (s *Server) edit(w http.ResponseWriter, r *http.Request, wish func(*deployment, fileset.Name) (configuration.Replacement, error)) {
	d, name, err := s.configFile(r)
	if err != nil {
		s.answerError(w, err)
		return
	}
	s.answerReplacement(w, r, name.String(), func() (configuration.Replacement, error) {
		q, err := wish(d, name)
		q.Expect = expected(r.Header.Get("If-Match"))
		return q, err
	})
}

// putConfigFiles replaces several files together.
func (s *Server) putConfigFiles(w http.ResponseWriter, r *http.Request) {
	s.answerReplacement(w, r, "", func() (configuration.Replacement, error) {
		d, err := s.configSection(r)
		if err != nil {
			return configuration.Replacement{}, err
		}
		body, err := readBody(w, r, maxSetBytes, "the set of files")
		if err != nil {
			return configuration.Replacement{}, err
		}
		set, err := readSet(body)
		if err != nil {
			return configuration.Replacement{}, err
		}
		return configuration.New(d.site, set)
	})
}

// answerReplacement makes a change and answers what became of it; name is the
// file whose version is answered.
func (s *Server) answerReplacement(w http.ResponseWriter, r *http.Request, name string, wish func() (configuration.Replacement, error)) {
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
	q.Force = r.URL.Query().Get("force") == "1"
	out, err := s.replace(r.Context(), q)
	if err != nil {
		s.answerError(w, err)
		return
	}
	if version, ok := out.Versions[name]; ok {
		w.Header().Set("ETag", etag(version))
	}
	answerJSON(w, http.StatusOK, out.Replaced)
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
func readSet(body []byte) (set api.ConfigSet, err error) {
	if !utf8.Valid(body) { // the decoder would quietly replace it
		return set, refusal.New(refusal.Input, "the body is no UTF-8 text")
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err = dec.Decode(&set); err != nil {
		return set, refusal.New(refusal.Input, "want a body such as {\"files\": {\"vm.specs\": \"...\"}, \"prune\": false}: %v", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return set, refusal.New(refusal.Input, "the body goes on behind its JSON object")
	}
	return set, nil
}

// replace checks the new files and makes the change, in turn with the machines.
func (s *Server) replace(ctx context.Context, q configuration.Replacement) (out configuration.Result, err error) {
	warnings, err := q.Check()
	if err != nil {
		return out, err
	}
	_, err = s.decide(ctx, func(snapshot *allocation.Snapshot) (_ allocation.Outcome, c allocation.Changes, err error) {
		out, c, err = q.Decide(snapshot)
		return allocation.Outcome{}, c, err
	}, alone, s.sectionsWith(q.Deployment.ConfigDir)...)
	if err != nil {
		return out, err
	}
	out.Warnings = clipProblems(slices.Concat(warnings, out.Warnings, s.problems.Others(q.Deployment, slices.Collect(maps.Keys(out.Versions)))))
	s.config.Log.Info("configuration replaced", "deployment", q.Deployment.Name, "added", out.Added, "changed", out.Changed, "removed", out.Removed, "forced", q.Force)
	return out, nil
}

// sectionsWith are the deployments that share a configuration directory.
func (s *Server) sectionsWith(configDir string) []string {
	return slices.DeleteFunc(s.allSections(), func(name string) bool { return s.deployments[name].ConfigDir != configDir })
}

// maxWarnings bounds what an answer tells.
const maxWarnings = 50

func clipProblems(all []api.Problem) []api.Problem {
	if len(all) > maxWarnings {
		more := len(all) - maxWarnings
		all = append(all[:maxWarnings:maxWarnings], api.Problem{Text: fmt.Sprintf("and %d more", more), Warning: true})
	}
	return all
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
