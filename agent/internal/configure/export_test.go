package configure

import (
	"context"
	"maps"
	"slices"

	"edeploy/server/wire"
)

// HelperNames are the names that a script gets, sorted.
func HelperNames() []string {
	return slices.Sorted(maps.Keys(helpers(context.Background(), Host{}, wire.Configuration{}, &variables{}, &openFiles{}, &watch{})))
}
