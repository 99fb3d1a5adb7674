package main

import (
	"context"
	"fmt"

	"edeploy/agent/internal/installed"

	"github.com/spf13/cobra"
)

const reportHelp = `Tell the server (SERV) how the last upgrade or rollback ended, if it has not
heard: it did not answer then, or this machine lost power. Nothing is said when
there is nothing to tell. Every role does it after such an upgrade and after the
start of the machine, until the server has heard: edeploy-report.service.

Exit status: 0 told, or nothing to tell; 1 the server does not answer, or the
upgrade was interrupted and has to be ended first.`

func (p program) reportCommand(machine *installed.Machine) *cobra.Command {
	return plainCommand("report", "Tell the server what it has not heard of an upgrade", reportHelp,
		func(ctx context.Context) error { return p.reportLater(ctx, *machine) })
}

func (p program) reportLater(ctx context.Context, machine installed.Machine) error {
	conf, err := machine.Conf()
	if err != nil {
		return err
	}
	report, err := p.system(machine, false).ReportLater(ctx, conf)
	if err != nil || report == nil {
		return err
	}
	fmt.Fprintf(p.stdout, "%s was told: %s %s, %s\n", conf.Serv, report.Step, report.Status, report.Message)
	return nil
}
