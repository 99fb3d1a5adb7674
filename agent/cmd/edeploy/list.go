package main

import (
	"errors"
	"fmt"

	"edeploy/agent/internal/installed"

	"github.com/spf13/cobra"
)

const listHelp = `Print the versions that this machine can be upgraded to, one a line: those that
the server (RSERV) has metadata for, in metadata/VERS/ROLE/.

Exit status: 0 good, also when there are none; 1 the server could not be asked.`

func (p program) listCommand(machine *installed.Machine) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Print the versions this machine can be upgraded to",
		Long:  listHelp,
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			conf, err := machine.Conf()
			if err != nil {
				return err
			}
			versions, err := installed.Upgrades(c.Context(), conf)
			for _, v := range versions {
				_, writeErr := fmt.Fprintln(p.stdout, v)
				err = errors.Join(err, writeErr)
			}
			return err
		},
	}
}
