package httpd

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
	"edeploy/server/internal/transaction"
)

// maxEditors bounds the requests that bring configuration files, which are
// kept in memory while they are checked.
const maxEditors = 4

// maxSetBytes bounds the JSON of a set of files: its texts may have
// fileset.MaxBytes, and each of their line ends takes two bytes.
const maxSetBytes = 2 * fileset.MaxBytes

// listConfig answers GET /api/v1/config.
func (h *Handlers) listConfig(*http.Request) (any, error) {
	all := []api.ConfigFile{}
	for _, section := range h.Site.Sections() {
		collection := h.Site.Deployments[section].Collection
		infos, err := h.Store.Infos(collection)
		if err != nil {
			return nil, refusal.New(refusal.Broken, "%v", err)
		}
		for _, is := range infos {
			name := strings.TrimPrefix(is.Name, collection+"/")
			if _, err := fileset.ParseName(name); err == nil {
				all = append(all, api.ConfigFile{Section: section, Name: name, Bytes: is.Bytes, Modified: is.Modified})
			}
		}
	}
	return all, nil
}

// showConfigFile answers one file as it is; its ETag is its version.
func (h *Handlers) showConfigFile(w http.ResponseWriter, r *http.Request) {
	doc, err := h.configFile(r)
	if err != nil {
		h.answerError(w, err)
		return
	}
	head(w, "text/plain; charset=utf-8")
	w.Header().Set("ETag", etag(doc.Version))
	_, _ = w.Write(doc.Text) // the client is gone: it asks again
}

// sendKeys answers who may log in to machines that run the agent.
func (h *Handlers) sendKeys(w http.ResponseWriter, r *http.Request) {
	r.SetPathValue("name", string(fileset.Keys))
	h.showConfigFile(w, r)
}

func (h *Handlers) configFile(r *http.Request) (store.Document, error) {
	d, name, err := h.configName(r)
	if err != nil {
		return store.Document{}, err
	}
	doc, err := h.Store.Get(d.Collection + "/" + name.String())
	switch {
	case errors.Is(err, store.ErrNotExist):
		err = refusal.New(refusal.NoFile, "deployment %s has no file %s", d.Name, name)
	case err != nil:
		err = refusal.New(refusal.Broken, "%v", err)
	}
	return doc, err
}

// configName reads which deployment, and which file of it, a request is about.
// A request about several files has no {name}.
func (h *Handlers) configName(r *http.Request) (d *allocation.Deployment, name fileset.Name, err error) {
	section, file := r.PathValue("section"), r.PathValue("name")
	if d = h.Site.Deployments[section]; d == nil {
		return nil, name, refusal.New(refusal.NoFile, "edeploy.conf has no section %q", refusal.Clip(section, 100))
	}
	if file == "" {
		return d, name, nil
	}
	if name, err = fileset.ParseName(file); err != nil {
		return nil, name, refusal.New(refusal.Input, "%v", err)
	}
	return d, name, nil
}

// replaceConfig makes a change and answers what became of it. What it brings is
// kept in memory meanwhile, so there are few places.
func (h *Handlers) replaceConfig(w http.ResponseWriter, r *http.Request) {
	leave, err := h.editors.Enter(r.Context(), peerOf(r))
	if err != nil {
		h.answerError(w, err)
		return
	}
	defer leave()
	name, q, err := h.readReplacement(r)
	if err != nil {
		w.Header().Set("Connection", "close") // what is left of the body may be large
		h.answerError(w, err)
		return
	}
	out, err := h.replace(r.Context(), q)
	if err != nil {
		h.answerError(w, err)
		return
	}
	if version, ok := out.Versions[name]; ok {
		w.Header().Set("ETag", etag(version))
	}
	answerJSON(w, http.StatusOK, out.Replaced)
}

// readReplacement reads what a request wants: one file replaced or removed, or
// (name is "") several replaced together.
func (h *Handlers) readReplacement(r *http.Request) (name string, q configuration.Replacement, err error) {
	d, file, err := h.configName(r)
	if err != nil {
		return "", q, err
	}
	name = file.String()
	var set api.ConfigSet
	switch {
	case r.PathValue("name") == "":
		name = ""
		set, err = readSet(r)
	case r.Method == http.MethodPut:
		var text []byte
		text, err = readBody(r, fileset.MaxFileBytes, name)
		set.Files = map[string]string{name: string(text)}
	default:
		q = configuration.Replacement{Deployment: d, Remove: []fileset.Name{file}}
	}
	if err == nil && len(q.Remove) == 0 {
		q, err = configuration.New(d, set)
	}
	q.Force = r.URL.Query().Get("force") == "1"
	if name != "" {
		q.Expect = expected(r.Header.Get("If-Match"))
	}
	return name, q, err
}

// readSet reads the JSON of several files.
func readSet(r *http.Request) (set api.ConfigSet, err error) {
	body, err := readBody(r, maxSetBytes, "the set of files")
	if err != nil {
		return set, err
	}
	if !utf8.Valid(body) { // the decoder would quietly replace it
		return set, refusal.New(refusal.Input, "the body is no UTF-8 text")
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&set); err != nil {
		return set, refusal.New(refusal.Input, "want a body such as {\"files\": {\"vm.specs\": \"...\"}, \"prune\": false}: %v", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return set, refusal.New(refusal.Input, "the body goes on behind its JSON object")
	}
	return set, nil
}

// readBody reads a bounded body.
func readBody(r *http.Request, most int64, what string) ([]byte, error) {
	text, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, most))
	if errors.As(err, new(*http.MaxBytesError)) {
		return nil, refusal.New(refusal.TooLarge, "%s may have %d bytes", what, most)
	}
	if err != nil {
		return nil, refusal.New(refusal.Input, "read %s: %v", what, err)
	}
	return text, nil
}

// replace checks the new files and makes the change, in turn with the machines.
func (h *Handlers) replace(ctx context.Context, q configuration.Replacement) (out configuration.Result, err error) {
	warnings, err := q.Check()
	if err != nil {
		return out, err
	}
	_, err = h.Decide(ctx, func(snapshot *allocation.Snapshot) (_ allocation.Outcome, c allocation.Changes, err error) {
		out, c, err = q.Decide(snapshot)
		return allocation.Outcome{}, c, err
	}, transaction.Alone, h.Site.SectionsWith(q.Deployment.ConfigDir)...)
	if err != nil {
		return out, err
	}
	out.Warnings = clipProblems(slices.Concat(warnings, out.Warnings, h.Problems.Others(q.Deployment, slices.Collect(maps.Keys(out.Versions)))))
	h.Log.Info("configuration replaced", "deployment", q.Deployment.Name, "added", out.Added, "changed", out.Changed, "removed", out.Removed, "forced", q.Force)
	return out, nil
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
		return is != store.Absent && slices.ContainsFunc(strings.Split(header, ","), func(one string) bool {
			one = strings.TrimSpace(one)
			return one == "*" || one == etag(is)
		})
	}
}
