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
	"slices"
	"strings"

	"edeploy/server/api"
	"edeploy/server/wire"

	"github.com/spf13/cobra"
)

const metadataLong = `Bring upgrade metadata to the appliance: what machines keep and leave out when they upgrade (exclude, add_only), and
the programs that run before and after (pre, post).

DIR is .../FROM/ROLE/TO, as in metadata/D7-F.1.0.0/mysql/D7-F.1.1.0 of an eDeploy server, or a directory above such (FROM/ROLE,
FROM, metadata): then all below it are brought, one after the other. An upgrade needs exclude and add_only; when nothing is to be
added, add_only is the line "- *". The appliance checks each upgrade whole, and shows it whole or not at all; all mistakes are told,
and what has none is brought. The same metadata is not published twice. Another upgrade of the same name is replaced only with
--replace.`

// maxMetadata bounds one upgrade's metadata, as the appliance does.
const maxMetadata = 8 << 20

func newMetadataCommand(client *api.Client) *cobra.Command {
	var p pushMetadata
	cmd := &cobra.Command{
		Use:   "push-metadata DIR...",
		Short: "Bring upgrade metadata (FROM/ROLE/TO with exclude, add_only, pre, post) to the appliance",
		Long:  metadataLong,
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if client.Address == "" {
				return api.ErrNoAddress
			}
			p.client, p.out = client, cmd.OutOrStdout()
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

type pushMetadata struct {
	client        *api.Client
	replace, json bool
	out           io.Writer
}

func (p pushMetadata) run(ctx context.Context, dirs []string) error {
	var all []upgrade
	var wrong []error
	for _, dir := range dirs { // all are looked at before any is brought
		found, err := findUpgrades(dir)
		all, wrong = append(all, found...), append(wrong, err)
	}
	for i := range all {
		var err error
		if all[i].tar, err = all[i].pack(); err != nil {
			wrong = append(wrong, fmt.Errorf("metadata of %s: %w", all[i], err))
		}
	}
	if err := errors.Join(wrong...); err != nil {
		return err
	}
	for _, u := range all {
		err := p.push(ctx, u)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("push metadata of %s: %w", u, err))
		}
		if err != nil && !errors.As(err, new(*api.Error)) {
			break // there is no server
		}
	}
	return errors.Join(wrong...)
}

// upgrade is the metadata of one: from an image to a version of its role.
type upgrade struct {
	dir  string
	from wire.ImageRef
	to   string
	tar  []byte // its files
}

func (u upgrade) String() string {
	return fmt.Sprintf("%s from %s to %s", u.from.Role, u.from.Version, u.to)
}

// metadataFiles tell an upgrade from a directory of upgrades.
var metadataFiles = []string{"exclude", "add_only", "pre", "post"}

// maxDepth bounds how far below a directory upgrades are looked for:
// metadata/FROM/ROLE/TO in a directory of directories.
const maxDepth = 6

// findUpgrades finds the upgrade that a directory is, or all below it.
func findUpgrades(dir string) ([]upgrade, error) {
	path, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	var all []upgrade
	var wrong []error
	err = filepath.WalkDir(path, func(at string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case !e.IsDir():
			return nil
		case isUpgrade(at):
			u, err := newUpgrade(at)
			all, wrong = append(all, u), append(wrong, err)
			return fs.SkipDir
		case strings.Count(strings.TrimPrefix(at, path), string(filepath.Separator)) >= maxDepth:
			return fs.SkipDir
		}
		return nil
	})
	if err == nil {
		err = errors.Join(wrong...)
	}
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("%s holds no upgrade metadata: want FROM/ROLE/TO with the files exclude and add_only, in it or below it", dir)
	}
	if err != nil {
		return nil, err
	}
	return all, nil
}

func isUpgrade(dir string) bool {
	return slices.ContainsFunc(metadataFiles, func(name string) bool {
		info, err := os.Lstat(filepath.Join(dir, name))
		return err == nil && !info.IsDir()
	})
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

func namedUpgrade(from, role, to string) (upgrade, error) {
	ref, err := wire.NewImageRef(role, from)
	if err == nil {
		_, err = wire.NewImageRef(role, to)
	}
	return upgrade{from: ref, to: to}, err
}

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

func (p pushMetadata) push(ctx context.Context, u upgrade) error {
	text, err := p.client.PutUpgrade(ctx, u.from, u.to, u.tar, p.replace)
	if api.StatusOf(err) == http.StatusConflict && !p.replace {
		return fmt.Errorf("%w: --replace replaces it", err)
	}
	if err != nil {
		return err
	}
	return p.tell(u, text)
}

func (p pushMetadata) tell(u upgrade, text []byte) error {
	if p.json {
		var line bytes.Buffer
		if err := json.Compact(&line, text); err != nil {
			return fmt.Errorf("answer of the appliance: %w", err)
		}
		_, err := fmt.Fprintf(p.out, "%s\n", line.Bytes())
		return err
	}
	var answer api.Upgrade
	if err := json.Unmarshal(text, &answer); err != nil {
		return fmt.Errorf("answer of the appliance: %w", err)
	}
	words := map[api.UpgradeState]string{api.UpgradeNew: "published", api.UpgradeSame: "was there already", api.UpgradeReplaced: "replaced"}[answer.State]
	if !answer.Complete {
		words += fmt.Sprintf("; the image %s %s is still missing", u.from.Role, u.to)
	}
	_, err := fmt.Fprintf(p.out, "%s: %s\n", u, printable(words))
	return err
}
