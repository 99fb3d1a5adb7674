package role_test

import (
	"testing"

	"edeploy/images/internal/role"

	"github.com/google/go-cmp/cmp"
)

// A role adds to what is known of Debian's packages, and replaces it by name.
func TestMachines(t *testing.T) {
	own := role.Machine{Name: "munge", Paths: []string{"/etc/munge/munge.key"}}
	chain := []role.Definition{{Machine: []role.Machine{own, {Name: "x", Paths: []string{"/x"}}}, Shared: []string{"/s*"}}}
	known, err := role.Machines(nil)
	if err != nil {
		t.Fatal(err)
	}
	all, err := role.Machines(chain)
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]role.Machine{}
	for _, m := range all {
		byName[m.Name] = m
	}
	if len(all) != len(known)+1 || len(byName) != len(all) {
		t.Errorf("%d are known, %d with two more, one of a known name", len(known), len(all))
	}
	if diff := cmp.Diff(own, byName["munge"]); diff != "" {
		t.Errorf("munge (-want +got):\n%s", diff)
	}
	shared, err := role.Shared(chain)
	if err != nil || !role.AnyFits(shared, "/s1") || !role.AnyFits(shared, "/etc/aliases.db") || role.AnyFits(shared, "/x") {
		t.Errorf("shared %q, %v", shared, err)
	}
}
