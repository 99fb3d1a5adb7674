package installed_test

import (
	"os"
	"path"
	"slices"
	"testing"

	"edeploy/agent/internal/installed"

	"gopkg.in/yaml.v3"
)

// TestVolatileIsExcluded: what verify takes for the doing of a running system,
// an upgrade with the base role's exclude list leaves alone.
func TestVolatileIsExcluded(t *testing.T) {
	text, err := os.ReadFile("../../../images/roles/base/role.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var role struct{ Exclude []string }
	if err := yaml.Unmarshal(text, &role); err != nil {
		t.Fatal(err)
	}
	for _, rule := range installed.Volatile {
		at, covered := "/"+rule, slices.Contains(role.Exclude, "/"+rule)
		for ; at != "/" && !covered; at = path.Dir(at) {
			covered = slices.Contains(role.Exclude, at+"/")
		}
		if !covered {
			t.Errorf("the base role's exclude list has nothing that covers /%s", rule)
		}
	}
}
