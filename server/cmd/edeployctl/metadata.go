package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"

	"edeploy/server/wire"

	"github.com/spf13/cobra"
)

const metadataLong = `Bring upgrade metadata to the appliance: what machines keep and leave out when they upgrade (exclude, add_only), and
the programs that run before and after (pre, post).

DIR is .../FROM/ROLE/TO, as in metadata/D7-F.1.0.0/mysql/D7-F.1.1.0 of an eDeploy server, or a directory of such: then all of
them are brought, one after the other. The appliance checks each whole, and shows it whole or not at all. The same metadata is
not published twice. Another upgrade of the same name is replaced only with --replace.`

// maxMetadata bounds one upgrade's metadata, as the appliance does.
const maxMetadata = 8 << 20

// newMetadataCommand brings upgrade metadata to a running appliance.
func newMetadataCommand(address *string) *cobra.Command {
	var p pushMetadata
	cmd := &cobra.Command{
		Use:   "push-metadata DIR...",
		Short: "Bring upgrade metadata (FROM/ROLE/TO with exclude, add_only, pre, post) to the appliance",
		Long:  metadataLong,
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if *address == "" {
				return errNoServer
			}
			p.server, p.out = *address, cmd.OutOrStdout()
			return p.run(cmd.Context(), args)
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
	}
	cmd.Flags().BoolVar(&p.replace, "replace", false, "replace another upgrade of the same name")
	cmd.Flags().BoolVar(&p.json, "json", false, "print the server's JSON, an upgrade a line")
	return cmd
}

// pushMetadata is one run of the command.
type pushMetadata struct {
	server        string
	replace, json bool
	out           io.Writer
}

func (p pushMetadata) run(ctx context.Context, dirs []string) error {
	var all []upgrade
	for _, dir := range dirs { // all are looked at before any is brought
		found, err := findUpgrades(dir)
		if err != nil {
			return err
		}
		all = append(all, found...)
	}
	for _, u := range all {
		if err := p.push(ctx, u); err != nil {
			return fmt.Errorf("push metadata of %s: %w", u, err)
		}
	}
	return nil
}

// upgrade is the metadata of one: from an image to a version of its role.
type upgrade struct {
	dir  string
	from wire.ImageRef
	to   string
}

func (u upgrade) String() string {
	return fmt.Sprintf("%s from %s to %s", u.from.Role, u.from.Version, u.to)
}

// path is its API path.
func (u upgrade) path() string { return imagePath(u.from, "metadata", u.to) }

// metadataFile must be there for an upgrade; it tells one from a directory of
// upgrades.
const metadataFile = "exclude"

// findUpgrades finds the upgrade that a directory is, or all in it.
func findUpgrades(dir string) ([]upgrade, error) {
	path, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	found := []string{path}
	if _, err := os.Stat(filepath.Join(path, metadataFile)); err != nil {
		if found, err = filepath.Glob(filepath.Join(escapeGlob(path), "*", "*", "*", metadataFile)); err != nil {
			return nil, err
		}
		for i := range found {
			found[i] = filepath.Dir(found[i])
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s holds no upgrade metadata: want FROM/ROLE/TO with a file %s", dir, metadataFile)
	}
	var all []upgrade
	for _, path := range found {
		u, err := newUpgrade(path)
		if err != nil {
			return nil, err
		}
		all = append(all, u)
	}
	return all, nil
}

// escapeGlob makes a path stand for itself in a pattern.
func escapeGlob(path string) string {
	var b bytes.Buffer
	for _, c := range path {
		if c == '*' || c == '?' || c == '[' || c == '\\' {
			b.WriteByte('\\')
		}
		b.WriteRune(c)
	}
	return b.String()
}

// newUpgrade reads the names of a directory .../FROM/ROLE/TO.
func newUpgrade(path string) (upgrade, error) {
	role := filepath.Dir(path)
	u, err := namedUpgrade(filepath.Base(filepath.Dir(role)), filepath.Base(role), filepath.Base(path))
	if err != nil {
		return upgrade{}, fmt.Errorf("%s is not named FROM/ROLE/TO: %w", path, err)
	}
	u.dir = path
	return u, nil
}

// namedUpgrade checks the names of an upgrade.
func namedUpgrade(from, role, to string) (upgrade, error) {
	ref, err := wire.NewImageRef(role, from)
	if err == nil {
		_, err = wire.NewImageRef(role, to)
	}
	return upgrade{from: ref, to: to}, err
}

// pack writes the files of an upgrade as a tar.
func (u upgrade) pack() ([]byte, error) {
	var out bytes.Buffer
	archive := tar.NewWriter(&out)
	files := os.DirFS(u.dir)
	err := fs.WalkDir(files, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		return packEntry(archive, files, name, e)
	})
	if err == nil {
		err = archive.Close()
	}
	return out.Bytes(), err
}

func packEntry(archive *tar.Writer, files fs.FS, name string, e fs.DirEntry) error {
	info, err := e.Info()
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return archive.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: int64(info.Mode().Perm())})
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is neither a file nor a directory", name)
	case info.Size() > maxMetadata:
		return fmt.Errorf("%s has %d bytes, more than %d", name, info.Size(), maxMetadata)
	}
	text, err := fs.ReadFile(files, name)
	if err != nil {
		return err
	}
	err = archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: int64(info.Mode().Perm()), Size: int64(len(text))})
	if err == nil {
		_, err = archive.Write(text)
	}
	return err
}

// push brings one upgrade.
func (p pushMetadata) push(ctx context.Context, u upgrade) error {
	body, err := u.pack()
	if err != nil {
		return err
	}
	header := http.Header{"Content-Type": {"application/x-tar"}}
	if !p.replace {
		header.Set("If-None-Match", "*")
	}
	text, _, err := exchange(ctx, p.server, http.MethodPut, u.path(), header, body)
	var refused *httpError
	if errors.As(err, &refused) && refused.code == http.StatusConflict && !p.replace {
		return fmt.Errorf("%w: --replace replaces it", err)
	}
	if err != nil {
		return err
	}
	return p.tell(u, text)
}

// tell prints what has become of an upgrade.
func (p pushMetadata) tell(u upgrade, text []byte) error {
	if p.json {
		var line bytes.Buffer
		if err := json.Compact(&line, text); err != nil {
			return fmt.Errorf("answer of the appliance: %w", err)
		}
		_, err := fmt.Fprintf(p.out, "%s\n", line.Bytes())
		return err
	}
	var answer struct {
		State    string `json:"state"`
		Complete bool   `json:"complete"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return fmt.Errorf("answer of the appliance: %w", err)
	}
	words := map[string]string{"new": "published", "same": "was there already", "replaced": "replaced"}[answer.State]
	if !answer.Complete {
		words += fmt.Sprintf("; the image %s %s is still missing", u.from.Role, u.to)
	}
	_, err := fmt.Fprintf(p.out, "%s: %s\n", u, printable(words))
	return err
}
