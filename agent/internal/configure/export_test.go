package configure

import (
	"context"
	"maps"
	"slices"
)

// HelperNames are the names that a script gets, sorted.
func HelperNames() []string {
	return slices.Sorted(maps.Keys(helpers(context.Background(), Host{}, "", &variables{}, &openFiles{})))
}
