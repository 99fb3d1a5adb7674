package role

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"edeploy/server/wire"
)

// Version is what one version of a role is made of besides its definition:
// NAME/versions/VERSION/version.yaml, with files/ beside it. Most versions have
// none.
type Version struct {
	Name string `yaml:"-"`
	Dir  string `yaml:"-"`

	Description string       `yaml:"description"`
	From        string       `yaml:"from"`     // version of the same role whose archive this one starts from; "": built as the role says
	Upgrade     []string     `yaml:"upgrade"`  // shell patterns of installed packages that become the newest; "*": all
	Packages    []string     `yaml:"packages"` // further packages, or others of their versions
	Kernel      string       `yaml:"kernel"`   // kernel package; with From it takes the place of all other kernels
	Sources     []string     `yaml:"sources"`  // further suites of the Debian archive, while building
	Prefer      []Preference `yaml:"prefer"`   // suites to take packages from, while building
	Commands    []string     `yaml:"commands"` // run after the role's own
	Remove      []string     `yaml:"remove"`
	Exclude     []string     `yaml:"exclude"` // added to the role's

	Pre  string `yaml:"pre"`  // lines for the script pre of upgrades to this version
	Post string `yaml:"post"` // lines for the script post
}

// Preference takes packages from one suite even when another has newer ones.
type Preference struct {
	Packages []string `yaml:"packages"` // shell patterns of names
	Suite    string   `yaml:"suite"`
}

// LoadVersion reads and checks what is written of a version of the role, in the
// first directory that has something. It is empty when nothing is.
func (d Definition) LoadVersion(name string) (Version, error) {
	v := Version{Name: name}
	if _, err := wire.NewImageRef(d.Name, name); err != nil {
		return v, err
	}
	i := slices.IndexFunc(d.versions, func(dir string) bool { _, err := os.Stat(filepath.Join(dir, name)); return err == nil })
	if i < 0 {
		return v, nil
	}
	v.Dir = filepath.Join(d.versions[i], name)
	f, err := os.Open(filepath.Join(v.Dir, "version.yaml"))
	if errors.Is(err, fs.ErrNotExist) {
		return v, nil
	}
	if err != nil {
		return v, err
	}
	defer f.Close()
	if err := decode(f, &v); err != nil {
		return v, fmt.Errorf("%s: %w", f.Name(), err)
	}
	if err := v.check(d.Name); err != nil {
		return v, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return v, nil
}

func (v Version) check(role string) error {
	var errs []error
	if v.From != "" {
		_, err := wire.NewImageRef(role, v.From)
		errs = append(errs, err)
	}
	if v.From == v.Name {
		errs = append(errs, fmt.Errorf("version %s starts from itself", v.Name))
	}
	if len(v.Upgrade) > 0 && v.From == "" {
		errs = append(errs, errors.New("upgrade is for a version that starts from another one: give from"))
	}
	for _, p := range v.InstallPackages() {
		if !packageName.MatchString(p) {
			errs = append(errs, fmt.Errorf("package %q is not a package name", p))
		}
	}
	errs = append(errs, checkPatterns(v.Upgrade), v.checkSuites(), checkPaths(v.Remove, v.Exclude))
	return errors.Join(errs...)
}

func (v Version) checkSuites() error {
	suites := v.Sources
	for _, p := range v.Prefer {
		if len(p.Packages) == 0 {
			return fmt.Errorf("prefer %s: no packages are named", p.Suite)
		}
		if err := checkPatterns(p.Packages); err != nil {
			return err
		}
		suites = append(suites[:len(suites):len(suites)], p.Suite)
	}
	for _, s := range suites {
		if !suiteName.MatchString(s) {
			return fmt.Errorf("suite %q is not the name of a Debian suite", s)
		}
	}
	return nil
}

// Versions are the names of the versions that something is written of.
func (d Definition) Versions() ([]string, error) {
	var names []string
	for _, dir := range d.versions {
		files, err := filepath.Glob(filepath.Join(dir, "*", "version.yaml"))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			names = append(names, filepath.Base(filepath.Dir(file)))
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// Files is the directory laid over the tree after the role's, "" when there is none.
func (v Version) Files() string {
	if v.Dir == "" {
		return ""
	}
	return filesOf(v.Dir)
}

// InstallPackages is the kernel and Packages.
func (v Version) InstallPackages() []string {
	return Definition{Kernel: v.Kernel, Packages: v.Packages}.InstallPackages()
}
