// Package problems finds what an operator has to mend: mistakes in the
// configuration as it is now, what runs out, machines that failed. It keeps
// what went wrong of late.
package problems

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"edeploy/server/api"
	"edeploy/server/internal/allocation"
	"edeploy/server/internal/records"
	"edeploy/server/internal/store"
	"edeploy/server/wire"
)

// Finder finds the problems of a site.
type Finder struct {
	StateDir  string
	Site      *allocation.Site
	Records   *records.Records
	Documents store.Store
	Images    func() ([]wire.ImageRef, error) // that the appliance has; nil: not known here
	Addons    []wire.ImageRef                 // that every machine needs, whatever its profile
	Late      *List

	mu      sync.Mutex
	scripts map[string]checkedScript // by deployment and file
}

// All are the mistakes in the configuration as it is now, what runs out, the
// machines that failed, then the last things that went wrong, newest last.
func (f *Finder) All() []api.Problem {
	all := []api.Problem{}
	images := f.images()
	all = append(all, f.missingAddons(images)...)
	for _, name := range f.Site.Sections() {
		broken, supplies := f.configuration(f.Site.Deployments[name], images, true)
		all = slices.Concat(all, broken, supplies)
	}
	all = append(all, ofMachines(f.Records.Index().All(), f.restorable)...)
	for _, err := range f.Records.Broken() {
		all = append(all, api.Problem{File: filepath.Join(f.StateDir, "machines"), Text: err.Error()})
	}
	return slices.Concat(all, f.asides(), f.Late.all())
}

// Others are the problems in the configuration of a deployment, but for those
// about these files and for what runs out.
func (f *Finder) Others(d *allocation.Deployment, files []string) []api.Problem {
	broken, supplies := f.configuration(d, f.images(), false)
	return slices.DeleteFunc(slices.Concat(broken, supplies), func(p api.Problem) bool {
		return slices.ContainsFunc(files, func(name string) bool {
			return strings.HasSuffix(p.File, "/"+name) || strings.HasPrefix(p.Text, name+":")
		})
	})
}

// images are what the appliance has; nil: nobody knows.
func (f *Finder) images() []wire.ImageRef {
	if f.Images == nil {
		return nil
	}
	have, err := f.Images()
	if err != nil {
		f.Late.Add("", "The images cannot be listed: %v", err)
		return nil
	}
	return append([]wire.ImageRef{}, have...)
}

// missingAddons are add-ons that the appliance has not.
func (f *Finder) missingAddons(have []wire.ImageRef) []api.Problem {
	var all []api.Problem
	for _, ref := range f.Addons {
		if have != nil && !slices.Contains(have, ref) {
			all = append(all, api.Problem{Text: fmt.Sprintf("machines go without the add-on %s of [BOOT] ADDONS, which this appliance has not: edeployctl push %s %s", ref, ref.Role, ref.Version)})
		}
	}
	return all
}

// restorable tells whether a forgotten machine can be taken back.
func (f *Finder) restorable(id string) bool {
	_, err := f.Documents.Get(allocation.ForgottenName(id))
	return err == nil
}

// asides are the files of the state directory that were put aside, until they
// are removed.
func (f *Finder) asides() []api.Problem {
	var all []api.Problem
	for _, id := range f.Records.Aside() {
		path := filepath.Join(f.StateDir, "machines", id+".json.broken")
		all = append(all, api.Problem{File: path, Text: fmt.Sprintf("the record of machine %s was broken and was put aside as %s; since then it counts as installed and holds no profile: mend the file and put it back while edeployd is stopped, or edeployctl reinstall %s; then remove it", id, path, id)})
	}
	journals, _ := filepath.Glob(filepath.Join(f.StateDir, "journal.broken*")) // the pattern is good
	for _, path := range journals {
		all = append(all, api.Problem{File: path, Text: fmt.Sprintf("%s was no journal of a change and was put aside: compare the counts and CMDB entries with the list of machines, then remove it", path)})
	}
	return all
}
