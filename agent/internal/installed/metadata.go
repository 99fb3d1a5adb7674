package installed

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"edeploy/agent/internal/filter"
	"edeploy/agent/internal/source"
	"edeploy/agent/internal/treepath"
	"edeploy/server/wire"
)

// maxMetadataBytes is how much the metadata of all upgrades of one version may
// be: rules and scripts.
const maxMetadataBytes = 32 << 20

// metadataModule is the rsync module of upgrade metadata (reference section 9.7).
const metadataModule = "metadata"

const excludeName = "exclude"

// Metadata are the rules of one upgrade.
type Metadata struct {
	Exclude, AddOnly filter.List
}

// ErrNoUpgrade is wrapped when the server has no metadata for the way from one
// version to another.
var ErrNoUpgrade = errors.New("no such upgrade is published")

// FetchMetadata gets FROM/ROLE/TO of the module metadata into dir, which is
// empty. Scripts keep their permissions; links are not taken.
func FetchMetadata(ctx context.Context, conf wire.Installed, to, dir string) error {
	if _, err := wire.NewImageRef(conf.Image.Role, to); err != nil {
		return err
	}
	err := fetchMetadata(ctx, conf, wire.UpgradePath(conf.Image, to), dir, func() error {
		if entries, err := os.ReadDir(dir); err != nil || len(entries) == 0 {
			return errors.Join(err, ErrNoUpgrade)
		}
		return nil
	})
	var unreachable net.Error
	if err == nil || errors.As(err, &unreachable) {
		return err
	}
	// Servers say in their own words, or not at all, that a directory is not there.
	if versions, listErr := Upgrades(ctx, conf); listErr == nil && !slices.Contains(versions, to) {
		return fmt.Errorf("%w: the server has metadata of %s for %s", ErrNoUpgrade, conf.Image, listed(versions))
	}
	return err
}

func listed(versions []string) string {
	if len(versions) == 0 {
		return "none"
	}
	return strings.Join(versions, ", ")
}

// Upgrades are the versions that the machine can be upgraded to, sorted by name.
func Upgrades(ctx context.Context, conf wire.Installed) ([]string, error) {
	dir, err := os.MkdirTemp("", "edeploy-list-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	var versions []string
	err = fetchMetadata(ctx, conf, path.Join(conf.Image.Version, conf.Image.Role), dir, func() error {
		entries, err := os.ReadDir(dir)
		for _, e := range entries {
			if _, err := wire.NewImageRef(conf.Image.Role, e.Name()); e.IsDir() && err == nil {
				versions = append(versions, e.Name())
			}
		}
		return err
	})
	return versions, err
}

func fetchMetadata(ctx context.Context, conf wire.Installed, name, dir string, accept func() error) error {
	if conf.RServ == "" {
		return fmt.Errorf("fetch metadata: %s names no server (RSERV)", wire.ConfPath)
	}
	what := source.Remote{Path: path.Join(metadataModule, name) + "/", Flags: "-rpt", Limit: maxMetadataBytes}
	return source.Client{Installed: conf}.Fetch(ctx, what, dir, accept)
}

// ReadMetadata reads the rules in a metadata directory. `exclude` must be there,
// since without it an upgrade destroys data, and `add_only` must not be empty.
func ReadMetadata(dir string) (Metadata, error) {
	var m Metadata
	var err error
	if m.Exclude, err = readRules(dir, excludeName, filter.Exclude); err != nil {
		return m, err
	}
	if m.AddOnly, err = readRules(dir, "add_only", filter.Include); err != nil {
		return m, err
	}
	if m.AddOnly.Len() == 0 {
		return m, errors.New(`add_only has no rule: a line "- *" says that nothing is added`)
	}
	return m, nil
}

// Astray are sentences about rules of a list that lead through a symbolic link
// of a tree: as with rsync, they name nothing.
func Astray(dir, name string, tree treepath.Tree) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	var found []string
	for line := range strings.Lines(string(text)) {
		pattern := strings.TrimSpace(line)
		pattern = strings.TrimPrefix(strings.TrimPrefix(pattern, "- "), "+ ")
		if !strings.HasPrefix(pattern, "/") {
			continue
		}
		parts := strings.Split(strings.Trim(pattern, "/"), "/")
		wild := slices.IndexFunc(parts, func(part string) bool { return strings.ContainsAny(part, `*?[\`) })
		if wild < 0 {
			wild = len(parts) - 1
		}
		lies := path.Join(parts[:wild]...)
		if at, err := tree.Target(lies); err == nil && lies != "" && at != lies {
			found = append(found, fmt.Sprintf("%s: %s names nothing, because /%s leads through a link: write /%s", name, pattern, lies, path.Join(at, path.Join(parts[wild:]...))))
		}
	}
	return found, nil
}

func readRules(dir, name string, plain filter.Action) (filter.List, error) {
	info, err := os.Lstat(filepath.Join(dir, name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return filter.List{}, fmt.Errorf("%s is missing: an upgrade without it could destroy data", name)
	case err != nil:
		return filter.List{}, err
	case !info.Mode().IsRegular() || info.Size() > filter.MaxBytes:
		return filter.List{}, fmt.Errorf("%s is not a file of at most %d bytes", name, filter.MaxBytes)
	}
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return filter.List{}, err
	}
	list, err := filter.Parse(string(text), plain)
	if err != nil {
		return filter.List{}, fmt.Errorf("%s: %w", name, err)
	}
	return list, nil
}
