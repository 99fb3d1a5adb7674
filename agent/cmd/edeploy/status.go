package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"edeploy/agent/internal/installed"
	"edeploy/agent/internal/leftover"
	"edeploy/agent/internal/transaction"
	"edeploy/server/wire"

	"github.com/spf13/cobra"
)

const statusHelp = `Say what this machine is, whether an upgrade runs or was interrupted, and where
a rollback would lead to. Nothing is changed.

To root it also says which processes still run programs or libraries that an
upgrade or a rollback replaced, and how to restart them. Programs in Python,
Perl or shell are not seen when only they were replaced and not their
interpreter, nor is a service that keeps an old configuration.

Exit status: 0 all is well or an upgrade runs; 1 an upgrade was interrupted, or
it could not be found out.`

func (p program) statusCommand(machine *installed.Machine) *cobra.Command {
	var asJSON bool
	c := plainCommand("status", "Say what this machine is and whether an upgrade is under way", statusHelp,
		func(ctx context.Context) error { return p.status(ctx, *machine, asJSON) })
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

type condition struct {
	Image       wire.ImageRef            `json:"image"`
	Phase       transaction.Phase        `json:"phase"`
	Interrupted bool                     `json:"interrupted"`
	Running     int                      `json:"running,omitempty"` // pid
	From        *wire.ImageRef           `json:"from,omitempty"`
	To          *wire.ImageRef           `json:"to,omitempty"`
	Began       time.Time                `json:"began,omitzero"`
	Committed   time.Time                `json:"committed,omitzero"`
	StagedBytes int64                    `json:"staged_bytes"`
	KeptBytes   int64                    `json:"kept_bytes"`
	Rollback    *wire.ImageRef           `json:"rollback,omitempty"`
	FileSystems []transaction.FileSystem `json:"file_systems,omitempty"`
	Leftovers   *leftover.Report         `json:"leftovers,omitempty"` // none: not looked for
}

func (p program) status(ctx context.Context, machine installed.Machine, asJSON bool) error {
	conf, err := machine.Conf()
	if err != nil {
		return err
	}
	found, err := transaction.Machine{Root: machine.Root}.Status()
	if err != nil {
		return err
	}
	c := condition{Image: conf.Image, Phase: found.Phase, Running: found.Running, Began: found.Began, Committed: found.Committed,
		StagedBytes: found.StagedBytes, KeptBytes: found.KeptBytes, Rollback: found.Rollback, FileSystems: found.FileSystems}
	c.Interrupted = found.Phase.Interrupted() && found.Running == 0
	if found.To.Version != "" {
		c.From, c.To = &found.From, &found.To
	}
	if c.Running == 0 && !found.Changing() {
		c.Leftovers = p.leftovers(ctx, machine)
	}
	if err := p.show(asJSON, c, c.text); err != nil {
		return err
	}
	if c.Interrupted {
		return errSaid
	}
	return nil
}

func (c condition) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "This machine is %s.\n", c.Image)
	way := "An upgrade"
	if c.To != nil {
		way = fmt.Sprintf("The upgrade from %s to %s, begun %s,", c.From.Version, c.To.Version, moment(c.Began))
	}
	switch {
	case c.Running != 0:
		fmt.Fprintf(&b, "%s is running: phase %s, process %d.\n", way, c.Phase, c.Running)
	case c.Interrupted && (c.Phase == transaction.PhaseStaging || c.Phase == transaction.PhaseStaged):
		fmt.Fprintf(&b, "%s was interrupted before it changed anything: the same upgrade goes on from there, edeploy recover removes it (%.1f MB).\n", way, float64(c.StagedBytes)/1e6)
	case c.Interrupted:
		fmt.Fprintf(&b, "%s was interrupted in phase %s: end it with edeploy recover.\n", way, c.Phase)
	case c.To != nil:
		fmt.Fprintf(&b, "It was upgraded from %s on %s.\n", c.From.Version, moment(c.Committed))
	}
	if c.Rollback != nil {
		fmt.Fprintf(&b, "edeploy rollback leads to %s; %.1f MB are kept for it.\n", c.Rollback.Version, float64(c.KeptBytes)/1e6)
	}
	writeLeftovers(&b, c.Leftovers)
	return b.String()
}

func moment(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }
