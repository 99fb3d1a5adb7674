//go:build versions

package image

// What goes into the image besides our own programs: named here so that the
// root go.mod pins it.
import (
	_ "github.com/gokrazy/gokrazy"
	_ "github.com/gokrazy/gokrazy/cmd/randomd"
	_ "github.com/gokrazy/kernel.amd64"
)
