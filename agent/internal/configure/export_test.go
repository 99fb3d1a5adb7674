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

// ModuleNames are the names of each module, and as Cli the methods of hpacucli's,
// sorted.
func ModuleNames() map[string][]string {
	names := map[string][]string{"Cli": slices.Sorted(maps.Keys(hpFunctions))}
	for module := range modules {
		names[module] = (&helperEnv{}).module(module).(*starlarkstruct.Module).Members.Keys()
	}
	return names
}
