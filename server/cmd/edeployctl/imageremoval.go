package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"edeploy/server/api"
	"edeploy/server/wire"

	"github.com/spf13/cobra"
)

const removeImageLong = `Remove an image from the appliance: tree, manifest and archive. It disappears at once and whole; nothing is asked.

An image that machines need is not removed without --force: without its tree they cannot be brought onto it again. These are
the machines that run it, and those that run a version from which upgrades lead to it: the word that they were upgraded may be lost.
An image that a profile's script names in set_role is not removed without --force either: the next machine would fail.

Upgrade metadata stays, see remove-metadata. Images that scripts make out of variables, and machines that are just being installed
with it for the first time, are not looked at.`

func newRemoveImageCommand(client *api.Client) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:     "remove ROLE VERSION",
		Aliases: []string{"rm", "delete"},
		Short:   "Remove an image from the appliance; with --force also one that machines need",
		Long:    removeImageLong,
		Example: "  edeployctl images remove web D12-F.1.0.0",
		Args:    cobra.ExactArgs(2),
		RunE: printsSentence(func(cmd *cobra.Command, args []string) (string, error) {
			ref, err := wire.NewImageRef(args[0], args[1])
			if err != nil {
				return "", err
			}
			return removeImage(cmd, client, ref, force)
		}),
		ValidArgsFunction: completes(func(ctx context.Context, before []string) []string {
			all, _ := client.Images(ctx) // without an answer there is nothing to complete
			var rows [][]string
			for _, image := range all {
				rows = append(rows, []string{image.Role, image.Version})
			}
			return nextWords(rows, before)
		}),
	}
	cmd.Flags().BoolVar(&force, "force", false, "remove an image that machines need")
	return cmd
}

const removeMetadataLong = `Remove the metadata of one upgrade from the appliance. From then on, machines with the image ROLE FROM cannot be upgraded to
the version TO. The words are those of the directory that push-metadata brings: metadata/FROM/ROLE/TO. The images stay.`

func newRemoveMetadataCommand(client *api.Client) *cobra.Command {
	return &cobra.Command{
		Use:     "remove-metadata FROM ROLE TO",
		Short:   "Remove the metadata of an upgrade from the appliance",
		Long:    removeMetadataLong,
		Example: "  edeployctl images remove-metadata D12-F.1.0.0 web D12-F.1.0.1",
		Args:    cobra.ExactArgs(3),
		RunE: printsSentence(func(cmd *cobra.Command, args []string) (string, error) {
			u, err := namedUpgrade(args[0], args[1], args[2])
			if err != nil {
				return "", err
			}
			return removeUpgrade(cmd.Context(), client, u)
		}),
		ValidArgsFunction: completes(func(ctx context.Context, before []string) []string {
			all, _ := client.Upgrades(ctx) // without an answer there is nothing to complete
			var rows [][]string
			for _, u := range all {
				rows = append(rows, []string{u.From, u.Role, u.To})
			}
			return nextWords(rows, before)
		}),
	}
}

func removeImage(cmd *cobra.Command, client *api.Client, ref wire.ImageRef, force bool) (string, error) {
	image, err := client.Image(cmd.Context(), ref)
	if err != nil {
		return "", err
	}
	reasons, err := needs(cmd.Context(), client, ref)
	if err != nil {
		reasons = []string{fmt.Sprintf("whether machines need %s could not be found out: %v", ref, err)}
	}
	for _, reason := range reasons {
		fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s\n", printable(reason))
	}
	if len(reasons) > 0 && !force {
		return "", fmt.Errorf("%s is not removed: machines could not be brought onto it; --force removes it all the same", ref)
	}
	if err := client.DeleteImage(cmd.Context(), ref); err != nil {
		return "", fmt.Errorf("remove image: %w", err)
	}
	return fmt.Sprintf("%s: removed, %s", ref, removedParts(image)), nil
}

func removedParts(image api.Image) string {
	var parts []string
	if image.Complete {
		parts = append(parts, fmt.Sprintf("a tree of %s, %s", plural(image.Entries, "entry"), megabytes(image.Bytes)))
	}
	if image.ArchiveBytes > 0 {
		parts = append(parts, "an archive of "+megabytes(image.ArchiveBytes))
	}
	if len(parts) == 0 {
		return "an incomplete one"
	}
	return strings.Join(parts, ", and ")
}

// needs says why machines need an image; nothing when none does.
func needs(ctx context.Context, client *api.Client, ref wire.ImageRef) ([]string, error) {
	machines, err := client.Machines(ctx)
	if err != nil {
		return nil, err
	}
	upgrades, err := client.Upgrades(ctx)
	if err != nil {
		return nil, err
	}
	text, err := handedOut(ctx, client, ref)
	if err != nil {
		return nil, err
	}
	var reasons []string
	if text != "" {
		reasons = append(reasons, text)
	}
	if found := running(ref, machines); len(found) > 0 {
		reasons = append(reasons, fmt.Sprintf("%s is what runs on %s", ref, machineList(found)))
	}
	for _, version := range leadingTo(ref, upgrades) {
		from := wire.ImageRef{Role: ref.Role, Version: version}
		if found := running(from, machines); len(found) > 0 {
			reasons = append(reasons, fmt.Sprintf("%s, or by now %s, is what runs on %s", from, ref.Version, machineList(found)))
		}
	}
	return reasons, nil
}

// leadingTo are the versions from which upgrades lead to an image, in one step
// or several.
func leadingTo(ref wire.ImageRef, upgrades []api.Upgrade) []string {
	found := []string{ref.Version}
	for i := 0; i < len(found); i++ {
		for _, u := range upgrades {
			if u.Role == ref.Role && u.To == found[i] && !slices.Contains(found, u.From) {
				found = append(found, u.From)
			}
		}
	}
	return found[1:]
}

// machineList counts machines and names the first of them.
func machineList(machines []api.Machine) string {
	const most = 5
	var names []string
	for _, m := range machines[:min(most, len(machines))] {
		names = append(names, m.ID)
	}
	text := fmt.Sprintf("%d machines, ", len(machines))
	if len(machines) == 1 {
		text = "machine "
	}
	text += strings.Join(names, ", ")
	if len(machines) > most {
		text += ", ..."
	}
	return text
}

func removeUpgrade(ctx context.Context, client *api.Client, u upgrade) (string, error) {
	stored, err := client.Upgrade(ctx, u.from, u.to)
	if err != nil {
		return "", err
	}
	if err := client.DeleteUpgrade(ctx, u.from, u.to); err != nil {
		return "", fmt.Errorf("remove metadata: %w", err)
	}
	size := int64(0)
	for _, f := range stored.Files {
		size += f.Bytes
	}
	return fmt.Sprintf("%s: removed, %s, %s", u, plural(len(stored.Files), "file"), plural(size, "byte")), nil
}

// nextWords are the words that come after args in the rows that begin with them.
func nextWords(rows [][]string, args []string) []string {
	var words []string
	for _, row := range rows {
		if len(row) > len(args) && slices.Equal(row[:len(args)], args) {
			words = append(words, printable(row[len(args)]))
		}
	}
	slices.Sort(words)
	return slices.Compact(words)
}
