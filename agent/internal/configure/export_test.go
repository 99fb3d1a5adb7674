package configure

import (
	"context"
	"maps"
	"slices"

	"go.starlark.net/starlarkstruct"

	"edeploy/server/wire"
)

// HelperNames are the names that a script gets, sorted.
func HelperNames() []string {
	return slices.Sorted(maps.Keys(helpers(context.Background(), Host{}, wire.Configuration{}, &variables{}, &openFiles{}, &watch{})))
}

// IPMINames are the names of the module ipmi, sorted.
func IPMINames() []string { return (&helperEnv{}).ipmi().(*starlarkstruct.Module).Members.Keys() }
