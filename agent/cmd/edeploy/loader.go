package main

import (
	"context"
	"errors"
	"fmt"

	"edeploy/agent/internal/bootloader"
	"edeploy/agent/internal/installed"

	"github.com/moby/sys/mountinfo"
	"github.com/spf13/cobra"
)

const loaderHelp = `Make shim and GRUB on the EFI system partition (/boot/efi) those of the installed
version: the "post" of an upgrade that brings another shim or GRUB calls it.
Losing power meanwhile leaves a machine that starts. Machines without an EFI
system partition have nothing to do; a loader that is not signed was made by
grub-install and is left alone.

Exit status: 0 good; 1 a file could not be written.`

func (p program) loaderCommand(machine *installed.Machine) *cobra.Command {
	return plainCommand("loader", "Bring the installed version's signed boot loaders to the EFI system partition", loaderHelp,
		func(context.Context) error { return p.loader(*machine) })
}

func (p program) loader(machine installed.Machine) error {
	esp := machine.Path(bootloader.ESPDir)
	mounted, err := mountinfo.Mounted(esp)
	if err != nil || !mounted {
		fmt.Fprintln(p.stdout, "there is no EFI system partition on /boot/efi: nothing to do")
		return nil
	}
	replaced, err := bootloader.UpdateESP(machine.Path("/"), esp)
	for _, name := range replaced {
		fmt.Fprintf(p.stdout, "%s/%s replaced\n", bootloader.ESPDir, name)
	}
	if errors.Is(err, bootloader.ErrNotSigned) {
		fmt.Fprintf(p.stdout, "left alone: %v\n", err) // no reason to undo an upgrade
		return nil
	}
	if err == nil && len(replaced) == 0 {
		fmt.Fprintln(p.stdout, "the loaders on /boot/efi are those of the installed version")
	}
	return err
}
