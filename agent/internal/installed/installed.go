// Package installed is an installed machine's view of itself: what it was
// installed with, the manifest it must be equal to, what may differ, and how
// it compares.
package installed

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"edeploy/agent/internal/treepath"
	"edeploy/images/manifest"
	"edeploy/server/wire"
)

// Machine is an installed system, this one or one mounted for rescue.
type Machine struct {
	Root string // where its root directory is; "/" for the running system
}

// Open looks for the installed system in a directory, whose name may be relative
// or lead through links: mounts and processes know only the whole one.
func Open(root string) (Machine, error) {
	root, err := filepath.Abs(root)
	if err == nil {
		root, err = filepath.EvalSymlinks(root)
	}
	return Machine{root}, err
}

// Inside is the path, as a manifest has it, that the name of a file of this
// machine leads to. Links are followed inside of Root.
func (m Machine) Inside(name string) string {
	at, err := treepath.OnDisk(m.Root).Target(name)
	if err != nil { // a circle: what is to be done with it says so
		return strings.Trim(path.Clean("/"+name), "/")
	}
	return at
}

// Path is where the file lies, seen from outside of Root.
func (m Machine) Path(name string) string { return filepath.Join(m.Root, m.Inside(name)) }

func (m Machine) at(name string) string { return filepath.Join(m.Root, name) }

// Conf reads what the machine was installed with.
func (m Machine) Conf() (wire.Installed, error) {
	file := m.Path(wire.ConfPath)
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return wire.Installed{}, fmt.Errorf("%w: this system was not installed by edeploy", err)
	}
	if err != nil {
		return wire.Installed{}, err
	}
	conf, err := wire.ParseInstalled(string(text))
	if err != nil {
		return conf, fmt.Errorf("read %s: %w", file, err)
	}
	return conf, nil
}

// Manifest reads the manifest that the installation left on the machine.
func (m Machine) Manifest() (*manifest.Manifest, error) {
	found, err := manifest.ReadFile(m.Path(wire.ManifestPath))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: use --fetch to compare with the server's", err)
	}
	return found, err
}

// localNames reads the list of paths that the installation itself wrote over
// the tree (wire.LocalPath): one path a line, a directory with all below it
// when it ends with a slash, "#" starts a comment. No list is an empty list.
// The paths are answered as the manifest has them: people, and installations
// before this one, wrote them through linked directories.
func (m Machine) localNames() ([]string, error) {
	text, err := os.ReadFile(m.Path(wire.LocalPath))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\r\n")
		name := strings.Trim(line, "/")
		if name == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if at, err := treepath.OnDisk(m.Root).NoFollow(name); err == nil {
			name = at
		}
		names = append(names, name)
	}
	return names, nil
}
