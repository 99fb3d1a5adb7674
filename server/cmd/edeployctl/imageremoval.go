package main

import (
	"context"
	"fmt"
	"io"
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
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := wire.NewImageRef(args[0], args[1])
			if err != nil {
				return err
			}
			return removal{client, cmd.OutOrStdout(), cmd.ErrOrStderr()}.image(cmd.Context(), ref, force)
		},
		ValidArgsFunction: completeImage(client),
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
		RunE: func(cmd *cobra.Command, args []string) error {
			u, err := namedUpgrade(args[0], args[1], args[2])
			if err != nil {
				return err
			}
			return removal{client, cmd.OutOrStdout(), cmd.ErrOrStderr()}.upgrade(cmd.Context(), u)
		},
		ValidArgsFunction: completeUpgrade(client),
	}
}

// removal takes something away from the appliance.
type removal struct {
	client   *api.Client
	out, err io.Writer
}

func (r removal) image(ctx context.Context, ref wire.ImageRef, force bool) error {
	image, err := r.client.Image(ctx, ref)
	if err != nil {
		return err
	}
	reasons, err := r.needs(ctx, ref)
	if err != nil {
		reasons = []string{fmt.Sprintf("whether machines need %s could not be found out: %v", ref, err)}
	}
	for _, reason := range reasons {
		fmt.Fprintf(r.err, "warning: %s\n", printable(reason))
	}
	if len(reasons) > 0 && !force {
		return fmt.Errorf("%s is not removed: machines could not be brought onto it; --force removes it all the same", ref)
	}
	if err := r.client.DeleteImage(ctx, ref); err != nil {
		return fmt.Errorf("remove image: %w", err)
	}
	_, err = fmt.Fprintf(r.out, "%s: removed, %s\n", ref, removedParts(image))
	return err
}

// removedParts are the parts of an image and their sizes.
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
func (r removal) needs(ctx context.Context, ref wire.ImageRef) ([]string, error) {
	machines, err := r.client.Machines(ctx)
	if err != nil {
		return nil, err
	}
	upgrades, err := r.client.Upgrades(ctx)
	if err != nil {
		return nil, err
	}
	profiles, err := handingOut(ctx, r.client, ref)
	if err != nil {
		return nil, err
	}
	var reasons []string
	if text := handedOut(ref, profiles); text != "" {
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

func (r removal) upgrade(ctx context.Context, u upgrade) error {
	stored, err := r.client.Upgrade(ctx, u.from, u.to)
	if err != nil {
		return err
	}
	if err := r.client.DeleteUpgrade(ctx, u.from, u.to); err != nil {
		return fmt.Errorf("remove metadata: %w", err)
	}
	size := int64(0)
	for _, f := range stored.Files {
		size += f.Bytes
	}
	_, err = fmt.Fprintf(r.out, "%s: removed, %s, %s\n", u, plural(len(stored.Files), "file"), plural(size, "byte"))
	return err
}

// completeImage completes ROLE VERSION by asking the appliance.
func completeImage(client *api.Client) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		all, err := client.Images(cmd.Context())
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var rows [][]string
		for _, image := range all {
			rows = append(rows, []string{image.Role, image.Version})
		}
		return nextWords(rows, args), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeUpgrade completes FROM ROLE TO by asking the appliance.
func completeUpgrade(client *api.Client) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		all, err := client.Upgrades(cmd.Context())
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var rows [][]string
		for _, u := range all {
			rows = append(rows, []string{u.From, u.Role, u.To})
		}
		return nextWords(rows, args), cobra.ShellCompDirectiveNoFileComp
	}
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
