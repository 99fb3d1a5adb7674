package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"edeploy/agent/internal/bootguard"
	"edeploy/agent/internal/installed"
	"edeploy/agent/internal/transaction"

	"github.com/spf13/cobra"
)

const recoverHelp = `End an upgrade or a rollback that was interrupted. An upgrade that was not
complete is undone: every path is what it was before. One that was complete is
cleaned up after. It can itself be interrupted and run again.

The initial RAM disk does this by itself when the machine starts, with --early:
the other file systems that take part are mounted for it, and the exit status
says whether the machine was started for the recovery only.

Exit status: 0 the machine is one version; 100 it is, and a reboot is needed:
the kernel that runs belongs to another version or was started for the recovery;
1 it failed, and why.`

func (p program) recoverCommand(machine *installed.Machine) *cobra.Command {
	var early bool
	c := plainCommand("recover", "End an upgrade that was interrupted", recoverHelp, func(ctx context.Context) error {
		if early {
			return p.recoverEarly(ctx, *machine)
		}
		return p.recover(ctx, *machine)
	})
	c.Flags().BoolVar(&early, "early", false, "called by the initial RAM disk: mount what is needed, say nothing when there is nothing to do")
	return c
}

func (p program) recover(ctx context.Context, machine installed.Machine) error {
	work := p.system(machine, false).Transaction()
	if _, err := p.recovered(ctx, work); err != nil {
		return err
	}
	if err := p.reportLater(ctx, machine); err != nil {
		fmt.Fprintf(p.stderr, "edeploy: the server is not told: %v\n", err)
	}
	return p.now(ctx, machine)
}

func (p program) recovered(ctx context.Context, work transaction.Machine) (transaction.Outcome, error) {
	before, err := work.Status()
	if err != nil {
		return transaction.Nothing, err
	}
	outcome, err := work.Recover(ctx)
	if err != nil {
		return outcome, err
	}
	switch outcome {
	case transaction.Discarded:
		fmt.Fprintln(p.stdout, "An upgrade was interrupted before it changed anything: what it had staged is removed.")
	case transaction.Undone:
		fmt.Fprintf(p.stdout, "The way from %s to %s was interrupted: %s is restored.\n", before.From.Version, before.To.Version, before.From.Version)
	case transaction.Finished:
		fmt.Fprintf(p.stdout, "The upgrade from %s to %s was complete: what it left is removed.\n", before.From.Version, before.To.Version)
	}
	return outcome, nil
}

// recoverEarly runs in the initial RAM disk, at every start of the machine.
func (p program) recoverEarly(ctx context.Context, machine installed.Machine) (err error) {
	work := p.system(machine, false).Transaction()
	status, err := work.Status()
	if err != nil {
		return err
	}
	guarded, err := p.guarded()
	if err != nil || !guarded && !status.Phase.Interrupted() {
		return err
	}
	needed, err := otherFileSystems(machine, status)
	if err != nil {
		return err
	}
	unmount, err := machine.Mount(ctx, needed)
	if err != nil {
		return err
	}
	outcome, err := p.recovered(ctx, work)
	if err == nil && outcome == transaction.Nothing {
		// A guard that outlived its upgrade would start every time.
		err = work.Guard.Disarm(ctx)
	}
	if err == nil {
		_ = p.now(ctx, machine) // to be read on the console; the kernel is judged below
	}
	if err = errors.Join(err, unmount()); err != nil {
		return err
	}
	if guarded {
		return errRebootNeeded
	}
	return nil
}

// otherFileSystems are those that the transaction lies on and the one of the
// boot guard, without the root, outer ones first.
func otherFileSystems(machine installed.Machine, status transaction.Status) ([]transaction.FileSystem, error) {
	var needed []transaction.FileSystem
	for _, f := range status.FileSystems {
		if f.Path != "." {
			needed = append(needed, f)
		}
	}
	boot, ok, err := machine.Boot()
	if err != nil {
		return nil, err
	}
	if ok && !slices.ContainsFunc(needed, func(f transaction.FileSystem) bool { return f.Path == boot.Path }) {
		needed = append(needed, boot)
	}
	slices.SortStableFunc(needed, func(a, b transaction.FileSystem) int { return strings.Compare(a.Path, b.Path) })
	return needed, nil
}

// guarded tells whether GRUB started this kernel for the recovery.
func (p program) guarded() (bool, error) {
	text, err := os.ReadFile(cmp.Or(p.cmdline, "/proc/cmdline"))
	return slices.Contains(strings.Fields(string(text)), bootguard.Parameter), err
}
