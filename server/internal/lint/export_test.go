package lint

import "go.starlark.net/syntax"

// Dialect is what scripts are read in.
func Dialect() syntax.FileOptions { return *dialect }

// HelperNames are the names that scripts find.
func HelperNames() []string { return helperNames }
