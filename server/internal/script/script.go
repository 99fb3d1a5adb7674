// Package script makes the answer to an upload (reference section 4.4).
package script

import (
	"edeploy/server/internal/literal"
	"edeploy/server/wire"
)

// ProfileKey is the variable that tells a configuration script its profile.
const ProfileKey = "edeploy-profile"

// Configuration is the answer for a machine: its profile, the variables with
// the profile's name added, and the text of NAME.configure, unchanged. The
// variables are one dictionary with sorted keys, in ASCII, that Python and
// Starlark read alike.
func Configuration(profile string, vars *literal.Dict, configure string) wire.Configuration {
	all := vars.Clone()
	all.Set(ProfileKey, profile)
	return wire.Configuration{Profile: profile, Var: literal.Source(all), Script: configure}
}
