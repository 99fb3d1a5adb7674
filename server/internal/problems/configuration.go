package problems

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"edeploy/agent/dialect"
	"edeploy/server/api"
	"edeploy/server/internal/allocation"
	"edeploy/server/internal/cmdb"
	"edeploy/server/internal/lint"
	"edeploy/server/internal/literal"
	"edeploy/server/internal/profile"
	"edeploy/server/internal/state"
	"edeploy/server/wire"
)

// maxPerSection bounds the problems of one deployment's configuration.
const maxPerSection = 500

// configuration reads the whole configuration of a deployment. broken is what
// cannot be used; supplies are scripts that cannot run, images that they name
// and the appliance has not, when it is known which it has, and, if asked for,
// what runs out.
func (f *Finder) configuration(d *allocation.Deployment, images []wire.ImageRef, counts bool) (broken, supplies []api.Problem) {
	st, err := d.Dir.State()
	broken = f.configurationAsides(d)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		broken = append(broken, api.Problem{Section: d.Name, File: filepath.Join(d.ConfigDir, "state"),
			Text: fmt.Sprintf("deployment %s has no state file, so no machine gets a profile: bring one with its profiles (edeployctl config push DIR)", d.Name)})
	case err != nil:
		broken = append(broken, problemOf(d, err))
	}
	if st == nil {
		return broken, nil
	}
	seen := map[string]bool{}
	for _, pair := range st.Pairs() {
		if seen[pair.Profile] {
			continue
		}
		seen[pair.Profile] = true
		if len(broken)+len(supplies) >= maxPerSection {
			return append(broken, api.Problem{Section: d.Name, Text: fmt.Sprintf("there are more problems in the configuration of %s: these come first", d.Name)}), supplies
		}
		wrong, missing := f.profile(d, pair, images, counts)
		broken, supplies = append(broken, wrong...), append(supplies, missing...)
	}
	return broken, supplies
}

// asides are broken edits that were put aside (see allocation.Directory).
func (f *Finder) configurationAsides(d *allocation.Deployment) []api.Problem {
	var all []api.Problem
	documents, err := f.Documents.List(d.Collection)
	if err != nil {
		return []api.Problem{{Section: d.Name, File: d.ConfigDir, Text: err.Error()}}
	}
	for _, document := range documents {
		file := strings.TrimPrefix(document, d.Collection+"/")
		name, _, ok := strings.Cut(file, ".broken")
		if ok && (name == "state" || strings.HasSuffix(name, ".cmdb")) {
			all = append(all, api.Problem{Section: d.Name, File: filepath.Join(d.ConfigDir, file),
				Text: fmt.Sprintf("%s holds a broken edit of %s: mend it and put it back, or remove it", file, name)})
		}
	}
	return all
}

// profile reads the files of a profile.
func (f *Finder) profile(d *allocation.Deployment, pair state.Pair, images []wire.ImageRef, counts bool) (broken, supplies []api.Problem) {
	name := pair.Profile
	if err := profile.CheckName(name); err != nil {
		return []api.Problem{problemOf(d, err)}, nil
	}
	specs, err := d.Dir.Specs(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		broken = append(broken, api.Problem{Section: d.Name, Text: fmt.Sprintf("profile %s of the state file has no %s.specs: no machine gets it", name, name)})
	case err != nil:
		broken = append(broken, problemOf(d, err))
	default:
		for _, w := range specs.Warnings {
			broken = append(broken, api.Problem{Section: d.Name, Text: w.Error(), Warning: true})
		}
		broken = append(broken, bill(d, name, specs.Bill)...)
	}
	if text, err := d.Dir.Configure(name); err != nil {
		broken = append(broken, problemOf(d, err))
	} else {
		supplies = slices.Concat(f.script(d, name, text), missingImages(d, name, text, images))
	}
	file, err := d.Dir.CMDB(name)
	if err != nil {
		broken, file = append(broken, problemOf(d, err)), nil
	}
	if text := shortage(pair, file); counts && text != "" {
		supplies = append(supplies, api.Problem{Section: d.Name, Warning: true, Text: text})
	}
	return broken, supplies
}

// bill is what is wrong with the expected hardware that a profile names.
func bill(d *allocation.Deployment, profile, bill string) []api.Problem {
	if bill == "" {
		return nil
	}
	_, err := d.Dir.Bill(bill)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return []api.Problem{{Section: d.Name, Text: fmt.Sprintf("profile %s expects the hardware of %s.bill, which is not there, so no machine gets it: edeployctl expect %s ID makes it from a good machine", profile, bill, bill)}}
	case err != nil:
		return []api.Problem{problemOf(d, err)}
	}
	return nil
}

func problemOf(d *allocation.Deployment, err error) api.Problem {
	p := api.Problem{Section: d.Name, Text: err.Error()}
	var at *literal.Error
	var file *fs.PathError
	switch {
	case errors.As(err, &at):
		p.File, p.Line, p.Column = filepath.Join(d.Dir.Path(), filepath.Base(at.File)), at.Line, at.Column
	case errors.As(err, &file):
		p.File = file.Path
	}
	return p
}

// maxMistakes bounds what is told of one script.
const maxMistakes = 3

// checkedScript is a script that was read last, so that each is read once.
type checkedScript struct {
	text     string
	problems []api.Problem
}

// script are the mistakes in a profile's script, which ends the installation
// of every machine that gets it.
func (f *Finder) script(d *allocation.Deployment, name, text string) []api.Problem {
	file := name + ".configure"
	key := d.Name + "/" + file
	f.mu.Lock()
	defer f.mu.Unlock()
	if is, ok := f.scripts[key]; ok && is.text == text {
		return is.problems
	}
	is := checkedScript{text: text}
	found := lint.Script(file, text)
	for _, m := range found[:min(len(found), maxMistakes)] {
		is.problems = append(is.problems, api.Problem{Section: d.Name, File: d.ConfigDir + "/" + file, Line: m.Line, Column: m.Column,
			Text: fmt.Sprintf("%s: %s: mend the script, and edeployctl config push", m.Where(), m.Text)})
	}
	if f.scripts == nil {
		f.scripts = map[string]checkedScript{}
	}
	f.scripts[key] = is
	return is.problems
}

// missingImages are images that a profile's script names and that the
// appliance has not; have is nil when nobody knows.
func missingImages(d *allocation.Deployment, name, script string, have []wire.ImageRef) []api.Problem {
	if have == nil {
		return nil
	}
	var all []api.Problem
	images, _ := dialect.Roles(script)
	for _, ref := range images {
		if !slices.Contains(have, ref) {
			all = append(all, api.Problem{Section: d.Name, Text: fmt.Sprintf("profile %s installs %s, which this appliance has not: edeployctl push %s %s", name, ref, ref.Role, ref.Version)})
		}
	}
	return all
}

// shortage says that a profile can take no more machines, or fewer than its
// count says; "" when it can, or when its CMDB cannot be read.
func shortage(pair state.Pair, file *cmdb.File) string {
	name := pair.Profile
	if !pair.Available() {
		return fmt.Sprintf("profile %s takes no more machines, its count is %d: edeployctl state set %s N", name, pair.Count, name)
	}
	if file == nil || file.Len() == 0 {
		return ""
	}
	free := int64(0)
	for i := range file.Len() {
		if !file.Used(i) {
			free++
		}
	}
	switch {
	case free == 0:
		return fmt.Sprintf("profile %s takes no more machines, all %d entries of %s.cmdb are used: add entries and edeployctl config push, or edeployctl cmdb list %s", name, file.Len(), name, name)
	case !pair.Unlimited && free < pair.Count:
		entries := "entries"
		if free == 1 {
			entries = "entry"
		}
		return fmt.Sprintf("profile %s takes %d more machines, but %s.cmdb has %d free %s: add entries and edeployctl config push, or edeployctl state set %s %d", name, pair.Count, name, free, entries, name, free)
	}
	return ""
}
