package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"edeploy/images/manifest/archive"
	"edeploy/server/wire"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
)

func newPackCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "pack DIR ROLE VERSION",
		Short: "Pack a directory as it is into an image: archive and manifest",
		Long: `Packs a directory, with the owners and modes that its files have. That is how add-ons
are made, such as a vendor's tools: what DIR has in usr, opt or etc is laid over the
ramdisk of installing machines that [BOOT] ADDONS = ROLE/VERSION is for. Bring it to the
appliance with: edeployctl push ROLE VERSION`,
		Args: cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := wire.NewImageRef(args[1], args[2])
			if err != nil {
				return err
			}
			line, err := pack(cmd.Context(), args[0], filepath.Join(out, ref.Archive()), filepath.Join(out, ref.Manifest()))
			if err != nil {
				return fmt.Errorf("pack %s: %w", args[0], err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", ref, line)
			return nil
		},
	}
	cmd.Flags().StringVar(&out, "out", "out/install", "directory that gets VERSION/ROLE-VERSION.edeploy")
	return cmd
}

// pack writes the archive of a directory and its manifest. An archive that was there goes
// first: none is ever beside another one's manifest.
func pack(ctx context.Context, dir, archiveFile, manifestFile string) (line string, err error) {
	if err := os.MkdirAll(filepath.Dir(archiveFile), 0o755); err != nil {
		return "", err
	}
	file, err := renameio.NewPendingFile(archiveFile, renameio.WithPermissions(0o644))
	if err != nil {
		return "", err
	}
	defer file.Cleanup()
	packed, err := archive.NewWriter(file)
	if err != nil {
		return "", err
	}
	m, err := archive.Pack(ctx, packed, dir)
	if err = errors.Join(err, packed.Close()); err != nil {
		return "", err
	}
	var text bytes.Buffer
	if _, err := m.WriteTo(&text); err != nil {
		return "", err
	}
	if err := os.Remove(archiveFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	if err := renameio.WriteFile(manifestFile, text.Bytes(), 0o644); err != nil {
		return "", err
	}
	info, err := file.Stat()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d entries, %s, archive %s\n%s", len(m.Entries), megabytes(m.TotalBytes()), megabytes(info.Size()), archiveFile), file.CloseAtomicallyReplace()
}
