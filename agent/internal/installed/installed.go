// Package installed is an installed machine's view of itself: what it was
// installed with, the manifest it must be equal to, what may differ, and how
// it compares.
package installed

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"edeploy/images/manifest"
	"edeploy/server/wire"
)

// Machine is an installed system, this one or one mounted for rescue.
type Machine struct {
	Root string // where its root directory is; "/" for the running system
}

func (m Machine) path(name string) string { return filepath.Join(m.Root, name) }

// Conf reads what the machine was installed with.
func (m Machine) Conf() (wire.Installed, error) {
	path := m.path(wire.ConfPath)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return wire.Installed{}, fmt.Errorf("%w: this system was not installed by edeploy", err)
	}
	if err != nil {
		return wire.Installed{}, err
	}
	conf, err := wire.ParseInstalled(string(text))
	if err != nil {
		return conf, fmt.Errorf("read %s: %w", path, err)
	}
	return conf, nil
}

// Manifest reads the manifest that the installation left on the machine.
func (m Machine) Manifest() (*manifest.Manifest, error) {
	found, err := ReadManifest(m.path(wire.ManifestPath))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: use --fetch to compare with the server's", err)
	}
	return found, err
}

// ReadManifest reads a manifest from a file.
func ReadManifest(path string) (*manifest.Manifest, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, err := manifest.Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// LocalRules reads the list of paths that the installation itself wrote over
// the tree (wire.LocalPath): one path a line, a directory with all below it
// when it ends with a slash, "#" starts a comment. No list is an empty list.
func (m Machine) LocalRules() (Rules, error) {
	names, err := m.localNames()
	var rules Rules
	for _, name := range names {
		rules = append(rules, literal(name))
	}
	return rules, err
}

func (m Machine) localNames() ([]string, error) {
	text, err := os.ReadFile(m.path(wire.LocalPath))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\r\n")
		if name := strings.Trim(line, "/"); name != "" && !strings.HasPrefix(line, "#") {
			names = append(names, name)
		}
	}
	return names, nil
}
