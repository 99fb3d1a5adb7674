package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"edeploy/server/api"
	"edeploy/server/wire"

	"github.com/spf13/cobra"
)

const imagesLong = `List the role images of the appliance, and the upgrades that it has metadata of.

MACHINES counts the machines that run the image, by their last word: one that was upgraded while the appliance did not answer still counts for the old image.
An "incomplete" image lacks its tree or its manifest: it is an archive alone, or a tree that has not been described yet.
IMAGE says whether the version that an upgrade leads to is here; without it, no machine can be upgraded.

"push" and "push-metadata" bring images and upgrades, "remove" and "remove-metadata" remove them.

--json prints one document: "images", each with role, version, complete, entries, bytes, archive_bytes, published and machines
(their ids), and "upgrades", each with from, role, to, complete, published and files (name, bytes, mode, sha256).`

func newImagesCommand(client *api.Client) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "images",
		Short:   "List the role images and upgrades of the appliance, or remove some",
		Long:    imagesLong,
		Example: "  edeployctl images\n  edeployctl images remove web D12-F.1.0.0",
		Args:    cobra.NoArgs,
	}
	verb := &cobra.Command{Use: "list", Aliases: []string{"ls"}, Short: "List the role images and upgrades", Long: imagesLong, Args: cobra.NoArgs}
	for _, c := range []*cobra.Command{cmd, verb} {
		answers(c, "print JSON: a document with images and upgrades", func(cmd *cobra.Command, _ []string) (inventory, error) {
			return takeInventory(cmd.Context(), client)
		}, printInventory)
	}
	cmd.AddCommand(verb, newRemoveImageCommand(client), newRemoveMetadataCommand(client), newPushCommand(client), newMetadataCommand(client))
	return cmd
}

// inventory is what the appliance has for machines to install.
type inventory struct {
	Images   []storedImage   `json:"images"`   // by role and version
	Upgrades []storedUpgrade `json:"upgrades"` // by role and versions
}

// pushedImage is an image in what push prints.
type pushedImage struct {
	wire.ImageRef
	Complete bool  `json:"complete"`
	Entries  int   `json:"entries"`
	Bytes    int64 `json:"bytes"`
}

func newPushedImage(image api.Image) pushedImage {
	return pushedImage{image.ImageRef, image.Complete, image.Entries, image.Bytes}
}

// storedImage is an image as the appliance has it. Unlike api.Image it has all
// numbers, also those that are 0.
type storedImage struct {
	pushedImage
	ArchiveBytes int64     `json:"archive_bytes"`      // 0: no archive
	Published    time.Time `json:"published,omitzero"` // zero: not complete
	Machines     []string  `json:"machines"`           // ids of those that run it, as far as known
}

type storedUpgrade struct {
	From      string            `json:"from"`
	Role      string            `json:"role"`
	To        string            `json:"to"`
	Complete  bool              `json:"complete"` // the image ROLE TO is there
	Published time.Time         `json:"published"`
	Files     []api.UpgradeFile `json:"files"`
}

func takeInventory(ctx context.Context, client *api.Client) (inventory, error) {
	all := inventory{[]storedImage{}, []storedUpgrade{}}
	images, err := client.Images(ctx)
	if err != nil {
		return all, err
	}
	upgrades, err := client.Upgrades(ctx)
	if err != nil {
		return all, err
	}
	for _, u := range upgrades {
		all.Upgrades = append(all.Upgrades, storedUpgrade{u.From, u.Role, u.To, u.Complete, u.Published, u.Files})
	}
	machines, err := client.Machines(ctx)
	if err != nil {
		return all, err
	}
	for _, image := range images {
		ids := []string{}
		for _, m := range running(image.ImageRef, machines) {
			ids = append(ids, m.ID)
		}
		all.Images = append(all.Images, storedImage{newPushedImage(image), image.ArchiveBytes, image.Published, ids})
	}
	slices.SortFunc(all.Images, func(a, b storedImage) int {
		return cmp.Or(strings.Compare(a.Role, b.Role), strings.Compare(a.Version, b.Version))
	})
	slices.SortFunc(all.Upgrades, func(a, b storedUpgrade) int {
		return cmp.Or(strings.Compare(a.Role, b.Role), strings.Compare(a.From, b.From), strings.Compare(a.To, b.To))
	})
	return all, nil
}

// running are the machines that run an image, by their last word.
func running(ref wire.ImageRef, machines []api.Machine) []api.Machine {
	var found []api.Machine
	for _, m := range machines {
		if m.Image != nil && *m.Image == ref {
			found = append(found, m)
		}
	}
	return found
}

func printInventory(out io.Writer, all inventory) error {
	t := newTable(out, "ROLE", "VERSION", "ENTRIES", "SIZE", "ARCHIVE", "PUBLISHED", "MACHINES")
	for _, image := range all.Images {
		entries, size, published := "-", "-", "incomplete"
		if image.Complete {
			entries, size, published = fmt.Sprint(image.Entries), megabytes(image.Bytes), moment(image.Published)
		}
		archive := "-"
		if image.ArchiveBytes > 0 {
			archive = megabytes(image.ArchiveBytes)
		}
		t.row(image.Role, image.Version, entries, size, archive, published, len(image.Machines))
	}
	if err := t.Flush(); err != nil || len(all.Upgrades) == 0 {
		return err
	}
	fmt.Fprintln(out)
	t = newTable(out, "UPGRADE OF", "FROM", "TO", "FILES", "PUBLISHED", "IMAGE")
	for _, u := range all.Upgrades {
		image := "missing"
		if u.Complete {
			image = "here"
		}
		t.row(u.Role, u.From, u.To, len(u.Files), moment(u.Published), image)
	}
	return t.Flush()
}

func megabytes(bytes int64) string { return fmt.Sprintf("%.1f MB", float64(bytes)/1e6) }
