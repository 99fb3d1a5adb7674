package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"edeploy/server/api"
	"edeploy/server/internal/allocation"
	"edeploy/server/internal/literal"
	"edeploy/server/internal/profile"
	"edeploy/server/wire"
)

// Problems are the mistakes in the configuration as it is now, what runs out,
// the machines that failed, then the last things that went wrong, newest last.
func (s *Server) Problems() []api.Problem {
	all := []api.Problem{}
	names := s.allSections()
	slices.Sort(names)
	images := s.images()
	for _, name := range names {
		all = append(all, s.deployments[name].problems()...)
		all = append(all, s.deployments[name].supplies(images, true)...)
	}
	all = append(all, machineProblems(s.records.Book().All(), s.restorable)...)
	for _, err := range s.records.Broken() {
		all = append(all, api.Problem{File: filepath.Join(s.config.StateDir, "machines"), Text: err.Error()})
	}
	return slices.Concat(all, s.asides(), s.refusals.all(), s.problems.all())
}

// images are what the appliance has; nil: nobody knows.
func (s *Server) images() []wire.ImageRef {
	if s.config.Images == nil {
		return nil
	}
	have, err := s.config.Images()
	if err != nil {
		s.problem("", "The images cannot be listed: %v", err)
		return nil
	}
	return append([]wire.ImageRef{}, have...)
}

// restorable tells whether a forgotten machine can be taken back.
func (s *Server) restorable(id string) bool {
	_, err := s.documents.Get(allocation.ForgottenName(id))
	return err == nil
}

// asides are the files of the state directory that were put aside, until they
// are removed.
func (s *Server) asides() []api.Problem {
	var all []api.Problem
	at := func(pattern string) []string {
		found, _ := filepath.Glob(filepath.Join(s.config.StateDir, pattern)) // the pattern is good
		return found
	}
	for _, path := range at("machines/*.json.broken") {
		id := strings.TrimSuffix(filepath.Base(path), ".json.broken")
		all = append(all, api.Problem{File: path, Text: fmt.Sprintf("the record of machine %s was broken and was put aside as %s; since then it counts as installed and holds no profile: mend the file and put it back while edeployd is stopped, or edeployctl reinstall %s; then remove it", id, path, id)})
	}
	for _, path := range at("journal.broken*") {
		all = append(all, api.Problem{File: path, Text: fmt.Sprintf("%s was no journal of a change and was put aside: compare the counts and CMDB entries with the list of machines, then remove it", path)})
	}
	return all
}

// maxPerSection bounds the problems of one deployment's configuration.
const maxPerSection = 500

// problems reads the whole configuration of a deployment.
func (d *deployment) problems() []api.Problem {
	st, err := d.dir.State()
	all := d.asides()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		all = append(all, api.Problem{Section: d.name, File: filepath.Join(d.ConfigDir, "state"),
			Text: fmt.Sprintf("deployment %s has no state file, so no machine gets a profile: bring one with its profiles (edeployctl config push DIR)", d.name)})
	case err != nil:
		all = append(all, d.problemOf(err))
	}
	if st == nil {
		return all
	}
	seen := map[string]bool{}
	for _, pair := range st.Pairs() {
		if seen[pair.Profile] {
			continue
		}
		seen[pair.Profile] = true
		if len(all) >= maxPerSection {
			return append(all, api.Problem{Section: d.name, Text: fmt.Sprintf("there are more problems in the configuration of %s: these come first", d.name)})
		}
		all = append(all, d.profileProblems(pair.Profile)...)
	}
	return all
}

// asides are broken edits that were put aside (see view.putAside).
func (d *deployment) asides() []api.Problem {
	var all []api.Problem
	entries, err := os.ReadDir(d.ConfigDir)
	if err != nil {
		return []api.Problem{d.problemOf(err)}
	}
	for _, e := range entries {
		name, _, ok := strings.Cut(e.Name(), ".broken")
		if ok && (name == "state" || strings.HasSuffix(name, ".cmdb")) {
			all = append(all, api.Problem{Section: d.name, File: filepath.Join(d.ConfigDir, e.Name()),
				Text: fmt.Sprintf("%s holds a broken edit of %s: mend it and put it back, or remove it", e.Name(), name)})
		}
	}
	return all
}

func (d *deployment) profileProblems(name string) []api.Problem {
	if err := profile.CheckName(name); err != nil {
		return []api.Problem{d.problemOf(err)}
	}
	var all []api.Problem
	specs, err := d.dir.Specs(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		all = append(all, api.Problem{Section: d.name, Text: fmt.Sprintf("profile %s of the state file has no %s.specs: no machine gets it", name, name)})
	case err != nil:
		all = append(all, d.problemOf(err))
	default:
		for _, w := range specs.Warnings {
			all = append(all, api.Problem{Section: d.name, Text: w, Warning: true})
		}
	}
	if _, err := d.dir.Configure(name); err != nil {
		all = append(all, d.problemOf(err))
	}
	if _, err := d.dir.CMDB(name); err != nil {
		all = append(all, d.problemOf(err))
	}
	return all
}

func (d *deployment) problemOf(err error) api.Problem {
	p := api.Problem{Section: d.name, Text: err.Error()}
	var place *literal.Error
	var file *fs.PathError
	switch {
	case errors.As(err, &place):
		p.File, p.Line, p.Column = filepath.Join(d.dir.Path(), filepath.Base(place.File)), place.Line, place.Column
	case errors.As(err, &file):
		p.File = file.Path
	}
	return p
}

// problem notes and logs that something went wrong.
func (s *Server) problem(section, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.config.Log.Warn("problem", "deployment", section, "text", text)
	now := s.config.Now()
	s.problems.add(api.Problem{Section: section, Text: text, Time: &now})
}

// refused notes that a machine was refused. Anybody on the network can cause
// that, so it never pushes out what else went wrong.
func (s *Server) refused(section, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.config.Log.Warn("machine refused", "deployment", section, "text", text)
	now := s.config.Now()
	s.refusals.add(api.Problem{Section: section, Text: text, Time: &now})
}

// BoundReached notes that a client has used up its share of something outside
// of this package. Anybody on the network can cause that, too.
func (s *Server) BoundReached(text string) {
	now := s.config.Now()
	s.refusals.add(api.Problem{Text: text, Warning: true, Time: &now})
}

// maxProblems bounds the list.
const maxProblems = 100

// problemList is what went wrong of late. The same text is there once.
type problemList struct {
	mu   sync.Mutex
	list []api.Problem
}

func (l *problemList) add(p api.Problem) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = slices.DeleteFunc(l.list, func(old api.Problem) bool { return old.Text == p.Text })
	l.list = append(l.list, p)
	l.list = l.list[max(0, len(l.list)-maxProblems):]
}

func (l *problemList) all() []api.Problem {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.list)
}
