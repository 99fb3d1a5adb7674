package build

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"edeploy/images/internal/role"
	"edeploy/server/wire"
)

// recipe is what one build does: the role as it is defined, what the version
// adds, and what the tree starts from.
type recipe struct {
	role    role.Definition
	version role.Version
	suite   string         // Debian suite of the outermost base
	parts   []string       // components of the Debian archive: main, and what the role and its bases add
	machine []role.Machine // what belongs to one machine
	shared  []string       // patterns of paths that machines may share
	second  bool           // the build that the first one is compared with

	archive string // that the tree starts from; "": it starts from packages alone
}

// recipe reads the definitions and finds the archive to start from.
func (b Build) recipe() (recipe, error) {
	chain, err := b.Roles.Chain(b.Image.Role)
	if err != nil {
		return recipe{}, err
	}
	c := recipe{role: chain[len(chain)-1], suite: chain[0].Suite, parts: []string{"main"}}
	for _, d := range chain {
		c.parts = append(c.parts, d.Components...)
	}
	if c.version, err = c.role.LoadVersion(b.Image.Version); err != nil {
		return c, err
	}
	if c.machine, err = role.Machines(chain); err != nil {
		return c, err
	}
	if c.shared, err = role.Shared(chain); err != nil {
		return c, err
	}
	if b.From != "" {
		c.startFrom(b.From)
	}
	if b.Kernel != "" {
		c.version.Kernel = b.Kernel
	}
	c.archive, err = b.startArchive(c)
	return c, err
}

// startFrom makes the version one that starts from another one of the role. A
// version of which nothing else is written brings all packages up to date.
func (c *recipe) startFrom(version string) {
	v := &c.version
	v.From = version
	if len(v.Upgrade)+len(v.InstallPackages())+len(v.Commands) == 0 && v.Files() == "" {
		v.Upgrade = []string{"*"}
	}
}

// startArchive is the archive of the version, or of the base role, that the
// tree starts from.
func (b Build) startArchive(c recipe) (string, error) {
	name, version := c.role.Base, b.Base
	if c.version.From != "" {
		name, version = c.role.Name, c.version.From
	}
	if name == "" {
		return "", nil
	}
	if version == "" {
		version = b.Image.Version
	}
	ref, err := wire.NewImageRef(name, version)
	if err != nil {
		return "", err
	}
	if ref == b.Image {
		return "", fmt.Errorf("%s starts from itself", ref)
	}
	path := filepath.Join(b.Out, ref.Archive())
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s starts from %s, which is not built: mkrole build %[2]s makes it (%w)", b.Image, ref, err)
	}
	return path, nil
}

// derived says that the tree starts from another version of the same role,
// which has the role's packages already.
func (c recipe) derived() bool { return c.version.From != "" }

// kernel is the kernel package to install, "" for none: a derived tree has one.
func (c recipe) kernel() string {
	if c.version.Kernel != "" || c.derived() {
		return c.version.Kernel
	}
	return c.role.Kernel
}

// packages are the packages to install besides the kernel.
func (c recipe) packages() []string {
	if c.derived() {
		return c.version.Packages
	}
	return slices.Concat(c.role.Packages, c.version.Packages)
}

// files are the directories laid over the tree, in this order.
func (c recipe) files() []string {
	return slices.DeleteFunc([]string{c.role.Files(), c.version.Files()}, func(dir string) bool { return dir == "" })
}

// initramfs says that files or programs of the role belong into the initramfs,
// which the kernel package made before they came.
func (c recipe) initramfs() bool {
	for _, dir := range c.files() {
		for _, where := range []string{"etc/initramfs-tools", "usr/share/initramfs-tools"} {
			if _, err := os.Stat(filepath.Join(dir, where)); err == nil {
				return true
			}
		}
	}
	return false
}
