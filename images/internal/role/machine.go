package role

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Machine is something that belongs to one machine: a key, a name, a number. It
// is not in the tree; each machine makes its own when it starts.
type Machine struct {
	Name   string   `yaml:"name"`   // of the script in MachineDir
	Paths  []string `yaml:"paths"`  // removed from the tree
	Edited []string `yaml:"edited"` // kept in TemplateDir; a machine starts with a copy, which Make completes
	Clean  string   `yaml:"clean"`  // shell, run in the directory of the tree when one of the paths is there, or none is given
	Make   string   `yaml:"make"`   // shell, run on a machine that lacks one of the paths; "": something else makes them
}

// Directories in a tree.
const (
	MachineDir  = "/usr/lib/edeploy/machine.d" // scripts
	TemplateDir = "/usr/lib/edeploy/machine"   // what machines edit, below it as below /
)

// machineText is what is known of Debian's packages.
//
//go:embed machine.yaml
var machineText []byte

// Machines are what is known to belong to one machine: of Debian's packages,
// and what the roles of a chain add. A later one replaces one of its name.
func Machines(chain []Definition) ([]Machine, error) {
	known, err := knownMachines()
	if err != nil {
		return nil, err
	}
	all := known.Machine
	for _, d := range chain {
		for _, m := range d.Machine {
			all = slices.DeleteFunc(all, func(k Machine) bool { return k.Name == m.Name })
			all = append(all, m)
		}
	}
	return all, nil
}

// Shared are the patterns of paths that all machines of a role may share though
// they differ from build to build or look like one machine's.
func Shared(chain []Definition) ([]string, error) {
	known, err := knownMachines()
	if err != nil {
		return nil, err
	}
	all := known.Shared
	for _, d := range chain {
		all = append(all, d.Shared...)
	}
	return all, nil
}

func knownMachines() (d Definition, err error) {
	if err := decode(bytes.NewReader(machineText), &d); err != nil {
		return d, fmt.Errorf("machine.yaml: %w", err)
	}
	return d, d.checkMachines()
}

// AnyFits says whether one of the shell patterns names the path.
func AnyFits(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { ok, _ := path.Match(p, name); return ok })
}

var scriptName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)

func (d Definition) checkMachines() error {
	var errs []error
	for _, m := range d.Machine {
		if !scriptName.MatchString(m.Name) {
			errs = append(errs, fmt.Errorf("machine %q: want a name of small letters, digits and dashes", m.Name))
		}
		if len(m.Paths)+len(m.Edited) == 0 && m.Clean == "" {
			errs = append(errs, fmt.Errorf("machine %s: give the paths that belong to one machine", m.Name))
		}
		if strings.ContainsAny(strings.Join(m.Edited, ""), "*?[") {
			errs = append(errs, fmt.Errorf("machine %s: edited takes no patterns", m.Name))
		}
		if m.Make == "" && len(m.Edited) > 0 {
			errs = append(errs, fmt.Errorf("machine %s: edited needs make, which completes the files", m.Name))
		}
		if m.Make != "" && len(m.Paths)+len(m.Edited) == 0 {
			errs = append(errs, fmt.Errorf("machine %s: make needs paths, to know when they are missing", m.Name))
		}
		if strings.Contains(m.Make+m.Clean, "END_OF_") {
			errs = append(errs, fmt.Errorf("machine %s: END_OF_ has a meaning of its own", m.Name))
		}
		errs = append(errs, checkNames("machine "+m.Name, slices.Concat(m.Paths, m.Edited)))
	}
	return errors.Join(append(errs, checkNames("shared", d.Shared))...)
}
