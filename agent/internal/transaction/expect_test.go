package transaction_test

import (
	"maps"
	"slices"
	"testing"

	"edeploy/agent/internal/plan"
	"edeploy/images/manifest"
)

// expect is the disk as a plan says it becomes, but for new hard links.
func expect(t testing.TB, p *plan.Plan, disk *manifest.Manifest) *manifest.Manifest {
	t.Helper()
	there := map[string]manifest.Entry{}
	for _, e := range disk.Entries {
		there[e.Path] = e
	}
	for _, o := range p.Operations {
		if o.Action == plan.Delete {
			delete(there, o.Path)
			continue
		}
		e := *o.Entry
		e.Group = 0 // its number is not one of the disk's groups
		there[o.Path] = e
	}
	m, err := manifest.New(slices.Collect(maps.Values(there)))
	must(t, err)
	return m
}
