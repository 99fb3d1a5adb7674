package lint

import (
	"edeploy/agent/dialect"
	"edeploy/server/wire"
)

// Roles are the images that a configuration script can ask for, as far as its
// text says so; see dialect.Roles.
func Roles(script string) []wire.ImageRef {
	images, _ := dialect.Roles(script)
	return images
}
