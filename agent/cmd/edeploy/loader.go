package main

import (
	"context"
	"errors"
	"fmt"

	"edeploy/agent/internal/bootloader"
	"edeploy/agent/internal/disk"
	"edeploy/agent/internal/installed"

	"github.com/spf13/cobra"
)

const loaderHelp = `Make shim and GRUB on the EFI system partitions (/boot/efi, on the other disks of
an array /boot/efi2 and on) those of the installed version: the "post" of an
upgrade that brings another shim or GRUB calls it.
Losing power meanwhile leaves a machine that starts. Machines without an EFI
system partition have nothing to do; a loader that is not signed was made by
grub-install and is left alone.

Exit status: 0 good; 1 a file could not be written.`

func (p program) loaderCommand(machine *installed.Machine) *cobra.Command {
	return plainCommand("loader", "Bring the installed version's signed boot loaders to the EFI system partition", loaderHelp,
		func(context.Context) error { return p.loader(*machine) })
}

func (p program) loader(machine installed.Machine) error {
	root := machine.Path("/")
	mounts, err := disk.Below("/proc/self/mountinfo", root)
	if err != nil {
		return err
	}
	esps := bootloader.ESPs(mounts, root)
	if len(esps) == 0 {
		fmt.Fprintln(p.stdout, "there is no EFI system partition on /boot/efi: nothing to do")
	}
	for _, esp := range esps {
		if err := p.updateESP(root, esp); err != nil {
			return err
		}
	}
	return nil
}

func (p program) updateESP(root string, esp disk.Mount) error {
	at := esp.Relative(root)
	replaced, err := bootloader.UpdateESP(root, esp.Point)
	for _, name := range replaced {
		fmt.Fprintf(p.stdout, "%s/%s replaced\n", at, name)
	}
	if errors.Is(err, bootloader.ErrNotSigned) {
		fmt.Fprintf(p.stdout, "left alone: %v\n", err) // no reason to undo an upgrade
		return nil
	}
	if err == nil && len(replaced) == 0 {
		fmt.Fprintf(p.stdout, "the loaders on %s are those of the installed version\n", at)
	}
	return err
}
