package main

import (
	"fmt"
	"slices"
	"strings"

	"edeploy/server/api"

	"github.com/spf13/cobra"
)

const loaderLong = `Pin a machine to a loader: what its firmware starts, which then asks for the machine's boot script.

The appliance finds one that works by itself: when a loader does not bring a machine to the agent, its firmware is offered the next
one at its next boot, and the one that works is remembered, also for other machines of the model. Pin one when that takes too long, or
when the wrong one seems to work.

    ipxe         iPXE that drives the card through the firmware: undionly.kpxe, snponly.efi
    ipxe-native  iPXE with drivers of its own: ipxe.pxe, ipxe.efi
    grub         Debian's shim and GRUB, for UEFI; signed for Secure Boot
    http         none by PXE, so that UEFI firmware goes on to HTTP boot
    auto         none is pinned

ID is an id or a MAC address; a MAC address that the server has never seen becomes known. A loader that the machine's firmware cannot
start, or that is not in the boot directory, does not count. "edeployctl machines show ID" says what has worked and what has failed.`

func newLoaderCommand(client *api.Client) *cobra.Command {
	names := append(slices.Clone(api.Loaders), api.AnyLoader)
	return &cobra.Command{
		Use:   "loader ID NAME",
		Short: "Pin a machine to a loader: " + strings.Join(names, ", "),
		Long:  loaderLong,
		Args:  cobra.ExactArgs(2),
		RunE: printsSentence(func(cmd *cobra.Command, args []string) (string, error) {
			m, err := client.SetLoader(cmd.Context(), args[0], args[1])
			return fmt.Sprintf("machine %s has the loader %s", m.ID, m.Loader), err
		}),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return names, cobra.ShellCompDirectiveNoFileComp
			}
			return completeMachine(client)(cmd, args, prefix)
		},
	}
}

// loader is a machine's loader for a list: what is pinned, else what its
// firmware is offered next.
func loader(m api.Machine) string {
	if m.Loader != api.AnyLoader {
		return orDash(m.Loader)
	}
	var next []string
	for _, f := range m.Loaders {
		if !slices.Contains(next, f.Next) {
			next = append(next, f.Next)
		}
	}
	return orDash(strings.Join(next, ","))
}

// loaders says what is known of a machine's loaders, a line for each firmware.
func loaders(m api.Machine) string {
	var lines []string
	if m.Loader != "" && (m.Loader != api.AnyLoader || len(m.Loaders) > 0) {
		lines = append(lines, m.Loader)
	}
	for _, f := range m.Loaders {
		line := fmt.Sprintf("%s %s: next %s", f.MAC, f.Firmware, f.Next)
		if f.Works != "" {
			line += ", works " + f.Works
		}
		if len(f.Failed) > 0 {
			line += ", failed " + strings.Join(f.Failed, " ")
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}
