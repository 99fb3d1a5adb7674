package main

import (
	"context"
	"fmt"

	"edeploy/agent/internal/installed"
	"edeploy/agent/internal/upgrade"

	"github.com/spf13/cobra"
)

const rollbackHelp = `Bring the version before the last upgrade back, byte for byte, from what the
upgrade replaced and kept in /.edeploy. What was excluded from the upgrade, such
as a database, stays as it is now; users and groups are those from before the
upgrade, and it is said who is gone. No script runs. Which services and other
processes still run the other version is said at the end.

There is one step back: the next upgrade gives up what the last one kept.

Exit status: 0 done; 100 done, and a reboot is needed: the kernel that runs
belongs to the other version; 1 there is nothing to go back to, or it failed.`

func (p program) rollbackCommand(machine *installed.Machine) *cobra.Command {
	var noGuard bool
	c := plainCommand("rollback", "Bring the version before the last upgrade back", rollbackHelp,
		func(ctx context.Context) error { return p.rollback(ctx, *machine, noGuard) })
	c.Flags().BoolVar(&noGuard, "no-guard", false, noGuardHelp)
	return c
}

func (p program) rollback(ctx context.Context, machine installed.Machine, noGuard bool) error {
	result, err := p.system(machine, noGuard).Rollback(ctx, &console{program: p, out: p.stdout, machine: machine})
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stdout, "Rolled back from %s to %s in %s: %d new, %d replaced, %d attributes only, %d deleted\n",
		result.From.Version, result.To.Version, seconds(result.Total), result.Created, result.Replaced, result.Changed, result.Deleted)
	if len(result.GoneUsers) > 0 {
		fmt.Fprintf(p.stdout, "Users that are gone again: %s\n", upgrade.ShortList(result.GoneUsers))
	}
	return p.now(ctx, machine)
}

// now says what the machine is, and whether processes and kernel that run are
// its own.
func (p program) now(ctx context.Context, machine installed.Machine) error {
	conf, err := machine.Conf()
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stdout, "This machine is %s.\n", conf.Image)
	writeLeftovers(p.stdout, p.leftovers(ctx, machine))
	if release, foreign := p.foreignKernel(machine); foreign {
		fmt.Fprintf(p.stdout, "The running kernel %s belongs to another version: reboot.\n", release)
		return errRebootNeeded
	}
	return nil
}
