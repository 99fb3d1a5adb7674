// Package role reads role definitions: what a tree is made of, as data. A role
// is a directory NAME with role.yaml and, if it lays in files, files/. What one
// version of it adds is in NAME/versions/VERSION, see Version, which needs no
// role.yaml beside it when another directory of the Path has it.
package role

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"edeploy/server/wire"

	"gopkg.in/yaml.v3"
)

// Definition is one role. Either Suite or Base is set: a role starts from
// packages alone or from the tree of another role.
type Definition struct {
	Name string `yaml:"-"`
	Dir  string `yaml:"-"` // where it was read from

	versions []string // directories that may say something about versions

	Description string    `yaml:"description"`
	Suite       string    `yaml:"suite"`        // Debian suite of a role without Base
	Components  []string  `yaml:"components"`   // of the Debian archive that packages come from, besides main
	Base        string    `yaml:"base"`         // role whose archive this one starts from
	Bootable    bool      `yaml:"bootable"`     // a machine boots it: kernel, boot loader, init, client are checked for
	Kernel      string    `yaml:"kernel"`       // kernel package, apart from Packages so that a build can name another
	Packages    []string  `yaml:"packages"`     // Debian packages, without their recommended ones
	DpkgOptions []string  `yaml:"dpkg_options"` // lines for dpkg.cfg, such as path-exclude=...; they stay in the tree
	Users       []User    `yaml:"users"`        // made before the packages come, so that their numbers never change
	Programs    []Program `yaml:"programs"`     // our own, compiled into the tree
	Commands    []string  `yaml:"commands"`     // shell scripts, run in the tree when packages and files are in
	Remove      []string  `yaml:"remove"`       // shell patterns of paths removed at the end
	Exclude     []string  `yaml:"exclude"`      // paths that upgrades leave alone (rsync patterns), added to the base role's

	Machine []Machine `yaml:"machine"` // what each machine makes for itself
	Shared  []string  `yaml:"shared"`  // shell patterns of paths that machines may share, see Shared

	Changed []Change `yaml:"changed"` // what an upgrade does when packages of these names differ
}

// Change is what the scripts of an upgrade do when one of the packages is
// another version, comes or goes.
type Change struct {
	Packages []string `yaml:"packages"` // shell patterns of names
	Pre      string   `yaml:"pre"`      // lines for the script pre
	Post     string   `yaml:"post"`     // lines for the script post
	Reboot   bool     `yaml:"reboot"`   // post asks for a reboot
}

// User is an account with a fixed number, and the group of the same name.
type User struct {
	Name  string `yaml:"name"`
	UID   int    `yaml:"uid"`
	GID   int    `yaml:"gid"`
	Home  string `yaml:"home"`
	Shell string `yaml:"shell"`
}

// Program is a Go package and the path of its static binary in the tree.
type Program struct {
	Package string `yaml:"package"`
	Path    string `yaml:"path"`
}

// ErrUnknown is wrapped by Load when there is no such role.
var ErrUnknown = errors.New("no such role")

// Path are the directories of role definitions, in the order in which they are
// looked into: one's own before those that come with the product.
type Path []string

func (p Path) String() string { return strings.Join(p, " and ") }

// Load reads and checks the role NAME: the first role.yaml counts, and what it
// and the directories before it say about versions.
func (p Path) Load(name string) (Definition, error) {
	d := Definition{Name: name}
	if _, err := wire.NewImageRef(name, "0"); err != nil {
		return d, err
	}
	for _, dir := range p {
		d.Dir = filepath.Join(dir, name)
		d.versions = append(d.versions, filepath.Join(d.Dir, "versions"))
		f, err := os.Open(filepath.Join(d.Dir, "role.yaml"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return d, err
		}
		defer f.Close()
		return d.read(f)
	}
	return d, fmt.Errorf("role %s: %w (no %s/role.yaml in %s)", name, ErrUnknown, name, p)
}

// read reads and checks role.yaml.
func (d Definition) read(f *os.File) (Definition, error) {
	if err := decode(f, &d); err != nil {
		return d, fmt.Errorf("%s: %w", f.Name(), err)
	}
	if err := d.check(); err != nil {
		return d, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return d, nil
}

// decode reads yaml and refuses keys that mean nothing. An empty file is an
// empty definition.
func decode(r io.Reader, to any) error {
	dec := yaml.NewDecoder(r)
	dec.KnownFields(true)
	if err := dec.Decode(to); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// Chain reads the role and the roles it is based on, the outermost base first.
func (p Path) Chain(name string) ([]Definition, error) {
	var chain []Definition
	for name != "" {
		if slices.ContainsFunc(chain, func(d Definition) bool { return d.Name == name }) {
			return nil, fmt.Errorf("role %s is based on itself", name)
		}
		d, err := p.Load(name)
		if err != nil {
			return nil, err
		}
		chain = append(chain, d)
		name = d.Base
	}
	slices.Reverse(chain)
	return chain, nil
}

// List reads all roles, by name. The first directory must hold something.
func (p Path) List() ([]Definition, error) {
	names := map[string]bool{}
	for i, dir := range p {
		for _, pattern := range []string{"*/role.yaml", "*/versions/*/version.yaml"} {
			files, err := filepath.Glob(filepath.Join(dir, pattern))
			if err != nil {
				return nil, err
			}
			for _, file := range files {
				rel, _ := filepath.Rel(dir, file)
				name, _, _ := strings.Cut(rel, string(filepath.Separator))
				names[name] = true
			}
		}
		if i == 0 && len(names) == 0 {
			return nil, fmt.Errorf("list roles: %w: no ROLE/role.yaml and no ROLE/versions/VERSION/version.yaml below %s", ErrUnknown, dir)
		}
	}
	var roles []Definition
	for _, name := range slices.Sorted(maps.Keys(names)) {
		d, err := p.Load(name)
		if err != nil {
			return nil, err
		}
		roles = append(roles, d)
	}
	return roles, nil
}

// Files is the directory laid over the tree, "" when the role has none.
func (d Definition) Files() string { return filesOf(d.Dir) }

func filesOf(dir string) string {
	dir = filepath.Join(dir, "files")
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return ""
	}
	return dir
}

var (
	packageName    = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+(=[A-Za-z0-9.+:~-]+)?$`)
	packagePattern = regexp.MustCompile(`^[a-z0-9*?][a-z0-9+.*?-]*$`)
	suiteName      = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)
	userName       = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)
	pathText       = regexp.MustCompile(`^/[A-Za-z0-9._/@+*?\[\]-]*$`)
	goPackage      = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]*$`)
)

func (d Definition) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if (d.Suite == "") == (d.Base == "") {
		bad("give either suite or base")
	}
	if d.Suite != "" && !suiteName.MatchString(d.Suite) {
		bad("suite %q is not the name of a Debian suite", d.Suite)
	}
	for _, c := range d.Components {
		if !suiteName.MatchString(c) {
			bad("component %q is not the name of a part of the Debian archive", c)
		}
	}
	for _, p := range d.InstallPackages() {
		if !packageName.MatchString(p) {
			bad("package %q is not a package name", p)
		}
	}
	for _, o := range d.DpkgOptions {
		if strings.ContainsAny(o, "\n'") {
			bad("dpkg option %q holds a newline or a quote", o)
		}
	}
	for _, u := range d.Users {
		errs = append(errs, u.check())
	}
	for _, p := range d.Programs {
		if !goPackage.MatchString(p.Package) || !cleanPath(p.Path) {
			bad("program %q at %q: want a Go package and a clean absolute path", p.Package, p.Path)
		}
	}
	errs = append(errs, checkPaths(d.Remove, d.Exclude), d.checkMachines())
	for _, c := range d.Changed {
		errs = append(errs, c.check())
	}
	return errors.Join(errs...)
}

func checkPaths(remove, exclude []string) error {
	errs := []error{checkNames("remove", remove)}
	for _, p := range exclude {
		if strings.Contains(p, "\n") || strings.TrimSpace(p) == "" {
			errs = append(errs, fmt.Errorf("exclude %q: want one pattern", p))
		}
	}
	return errors.Join(errs...)
}

// checkNames checks paths, or patterns of them, that stand in shell scripts.
func checkNames(what string, paths []string) error {
	for _, p := range paths {
		if !pathText.MatchString(p) || !cleanPath(p) || p == "/" {
			return fmt.Errorf("%s %q: want a clean absolute path or pattern", what, p)
		}
	}
	return nil
}

func (c Change) check() error {
	if len(c.Packages) == 0 {
		return errors.New("changed: no packages are named")
	}
	if c.Pre == "" && c.Post == "" && !c.Reboot {
		return fmt.Errorf("changed: nothing is to be done for %s", strings.Join(c.Packages, ", "))
	}
	return checkPatterns(c.Packages)
}

func checkPatterns(patterns []string) error {
	for _, p := range patterns {
		if !packagePattern.MatchString(p) {
			return fmt.Errorf("package %q is neither a name nor a pattern of names", p)
		}
	}
	return nil
}

// Fits says whether one of the patterns names the package.
func (c Change) Fits(name string) bool {
	return slices.ContainsFunc(c.Packages, func(p string) bool { ok, _ := path.Match(p, name); return ok })
}

func (u User) check() error {
	if !userName.MatchString(u.Name) {
		return fmt.Errorf("user %q is not an account name", u.Name)
	}
	if u.UID < 1 || u.UID > 65533 || u.GID < 1 || u.GID > 65533 {
		return fmt.Errorf("user %s: uid %d, gid %d: want 1 to 65533", u.Name, u.UID, u.GID)
	}
	if !cleanPath(u.Home) || !cleanPath(u.Shell) || strings.ContainsAny(u.Home+u.Shell, ":\n'") {
		return fmt.Errorf("user %s: home %q, shell %q: want clean absolute paths", u.Name, u.Home, u.Shell)
	}
	return nil
}

func cleanPath(p string) bool { return strings.HasPrefix(p, "/") && path.Clean(p) == p }

// InstallPackages is the kernel and Packages.
func (d Definition) InstallPackages() []string {
	if d.Kernel == "" {
		return d.Packages
	}
	return append([]string{d.Kernel}, d.Packages...)
}
