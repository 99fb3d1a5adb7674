package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"edeploy/agent/internal/installed"
	"edeploy/agent/internal/leftover"
	"edeploy/agent/internal/upgrade"
	"edeploy/server/wire"

	"github.com/spf13/cobra"
)

const upgradeHelp = `Make this machine VERSION of its role, as "edeploy test-upgrade VERSION" shows
it beforehand. "edeploy list" says which versions there are a way to.

  1. metadata/FROM/ROLE/VERSION of the server (RSERV) comes to
     /var/lib/edeploy/VERSION: exclude, add_only, and perhaps pre and post
  2. what is to change is found by comparing the disk with the new manifest;
     users and groups of both are merged, what is lost otherwise is said
  3. all new content is staged in /.edeploy, from the server (SERV) or from
     elsewhere on the disk, and checked; a server that goes away is waited for
  4. pre runs; when it fails, nothing has changed
  5. renames put everything in place; what they replace is kept
  6. post runs; when it fails, everything is put back at once
  7. SELinux labels are set where SELinux is on; conf and manifest say VERSION

The scripts run in /var/lib/edeploy/VERSION, with ROLE, FROM and TO set. What
they print goes to the console and to ` + wire.LogDir + `/upgrade-FROM-TO.log.
A post that exits with 100 has done well and asks for a reboot, which follows.

The server is told what becomes of it: "edeployctl machines" shows that. When it
does not answer, "edeploy report" tells it later.

Nothing is restarted but by post: at the end it is said which services and other
processes still run what was replaced, as "edeploy status" does later.

A machine that loses power meanwhile starts a recovery first (a copy of the
running kernel, started by GRUB) and is FROM again, or VERSION when that was
complete. "edeploy rollback" goes back later.

Exit status: 0 done (and the machine reboots, if post asked for it); 100 done,
and a reboot is needed; 1 not possible, or failed and put back; 2 it could not
be found out what to do: no conf, no server, an unreadable disk.`

const (
	upgradeName = "upgrade"
	noGuardHelp = "go on although GRUB cannot be told to start the recovery after a power cut"
)

type upgradeOptions struct {
	json, dryRun, noReboot, noGuard bool
}

func (p program) upgradeCommand(machine *installed.Machine) *cobra.Command {
	var o upgradeOptions
	c := versionCommand(machine, upgradeName, "Make this machine another version of its role", upgradeHelp, func(ctx context.Context, to string) error {
		if o.dryRun {
			return p.testUpgrade(ctx, *machine, to, o.json)
		}
		return p.upgrade(ctx, *machine, to, o)
	})
	c.Flags().BoolVar(&o.json, "json", false, "print one JSON object; all else goes to the standard error output")
	c.Flags().BoolVar(&o.dryRun, "dry-run", false, "only tell what would change, as test-upgrade does")
	c.Flags().BoolVar(&o.noReboot, "no-reboot", false, "exit with 100 instead of rebooting")
	c.Flags().BoolVar(&o.noGuard, "no-guard", false, noGuardHelp)
	return c
}

func (p program) upgrade(ctx context.Context, machine installed.Machine, to string, o upgradeOptions) error {
	c := &console{program: p, out: p.stdout, machine: machine}
	if o.json {
		c.out = p.stderr
	}
	defer c.close()
	result, err := p.system(machine, o.noGuard).Upgrade(ctx, to, c)
	if err != nil {
		return c.log(err)
	}
	return p.upgraded(ctx, machine, o, c.out, result)
}

// system is the machine with what its upgrades need.
func (p program) system(machine installed.Machine, noGuard bool) upgrade.System {
	return upgrade.System{
		Machine: machine, NoGuard: noGuard, Release: p.release, Patience: p.patience, Identity: p.identity, Log: warnings(p.stderr, p.terminal),
		Notify: func(s string) { fmt.Fprintf(p.stderr, "%s%s\n", clearLine(p.terminal), s) },
		Compare: func() (func(done, total int64), func()) {
			bar := bar{out: p.stderr, title: "compare", on: p.terminal, now: time.Now, start: time.Now()}
			return bar.show, bar.clear
		},
	}
}

// upgraded says what was done, and reboots if that is asked for.
func (p program) upgraded(ctx context.Context, machine installed.Machine, o upgradeOptions, out io.Writer, r upgrade.Outcome) error {
	fmt.Fprintln(out, r)
	reboot := r.Reboot && !o.noReboot && machine.Root == "/"
	var running *leftover.Report // nil: not looked for
	if !reboot {
		running = p.leftovers(ctx, machine)
		writeLeftovers(out, running)
	}
	if o.json {
		report := outcomeReport{r, r.Changing.Seconds(), r.Total.Seconds(), r.Reboot, reboot, running}
		if err := p.show(true, report, nil); err != nil {
			return err
		}
	}
	switch {
	case reboot:
		fmt.Fprintln(out, "The machine reboots, as post asked for.")
		return restart(ctx)
	case r.Reboot:
		fmt.Fprintln(out, "A reboot is needed, says post.")
		return errRebootNeeded
	}
	return nil
}

// outcomeReport is what upgrade --json prints.
type outcomeReport struct {
	upgrade.Outcome
	ChangingSeconds float64          `json:"changing_seconds"`
	TotalSeconds    float64          `json:"total_seconds"`
	RebootNeeded    bool             `json:"reboot_needed"`
	Rebooting       bool             `json:"rebooting"`
	Leftovers       *leftover.Report `json:"leftovers,omitempty"` // none: not looked for
}
