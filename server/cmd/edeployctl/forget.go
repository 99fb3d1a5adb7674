package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"edeploy/server/api"

	"github.com/spf13/cobra"
)

const forgetLong = `Forget a machine: what it holds, a count and a CMDB entry, becomes free for others, and it is a new machine when it asks again.

A machine that is installed is still running with its address. On a terminal the command asks first; elsewhere it wants --force.
"restore" takes a forgotten machine back with what it held, as long as that is still free; "forgotten" lists them.

--strangers forgets all machines that nobody needs: they hold nothing, are not installed, and no operator has spoken of them.`

// forgetting is one run of forget.
type forgetting struct {
	client           *api.Client
	force, strangers bool
	in               io.Reader
	out, err         io.Writer
	asks             bool // somebody is there to answer
}

func newForgetCommand(client *api.Client) *cobra.Command {
	var f forgetting
	cmd := &cobra.Command{
		Use:               "forget ID | forget --strangers",
		Aliases:           []string{"delete"},
		Short:             "Forget a machine; its count and CMDB entry are given back",
		Long:              forgetLong,
		Example:           "  edeployctl forget node7\n  edeployctl forget --force 52:54:00:12:34:56",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeMachine(client),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.client, f.in, f.out, f.err = client, cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
			f.asks = isTerminal(f.in) && isTerminal(f.err)
			switch {
			case f.strangers == (len(args) == 1):
				return unseen(errors.New("which machine? Give its ID, or --strangers"))
			case f.strangers:
				return f.all(cmd.Context())
			}
			return f.one(cmd.Context(), args[0])
		},
	}
	cmd.Flags().BoolVar(&f.force, "force", false, "do not ask: also a machine that is installed")
	cmd.Flags().BoolVar(&f.strangers, "strangers", false, "all machines that nobody needs")
	return cmd
}

func (f forgetting) one(ctx context.Context, id string) error {
	gone, err := f.client.Forget(ctx, id, f.force)
	if api.StatusOf(err) == http.StatusConflict && !f.force && f.asks {
		fmt.Fprintf(f.err, "%v\nForget it? [y/N] ", err)
		if !confirmed(f.in) {
			return errors.New("nothing was changed")
		}
		f.force = true
		return f.one(ctx, id)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(f.out, "machine %s (%s) is forgotten%s\n", gone.ID, printable(gone.DisplayName), printable(freed(gone)))
	return nil
}

// freed says what a machine that is gone has made free.
func freed(gone api.Forgotten) string {
	if gone.Profile == "" {
		return ""
	}
	var words []string
	if gone.Counted {
		words = append(words, "one count of profile "+gone.Profile)
	}
	if gone.CMDB != "" {
		words = append(words, "the CMDB entry "+gone.CMDB)
	}
	text := ""
	if len(words) > 0 {
		text = "; free now: " + strings.Join(words, ", ")
	}
	return text + "; edeployctl restore " + gone.ID + " takes it back"
}

func (f forgetting) all(ctx context.Context) error {
	n, err := f.client.ForgetStrangers(ctx)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f.out, "%s forgotten\n", plural(n, "machine"))
	return err
}

func newRestoreCommand(client *api.Client) *cobra.Command {
	return &cobra.Command{
		Use:   "restore ID",
		Short: "Take a forgotten machine back, with what it held",
		Long: `Restore takes back a machine that was forgotten, with its profile, its count and its CMDB entry. When others have taken them
meanwhile, nothing is changed, and the answer says what is in the way.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := client.Restore(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			profile := "holds no profile"
			if m.Allocation != nil {
				profile = "holds profile " + m.Allocation.Profile
			}
			fmt.Fprintf(cmd.OutOrStdout(), "machine %s (%s) is back: it %s and boots next: %s\n", m.ID, printable(m.DisplayName), printable(profile), m.NextBoot)
			return nil
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			all, _ := client.Forgotten(cmd.Context()) // without an answer there is nothing to complete
			var words []string
			for _, gone := range all {
				words = append(words, gone.ID+"\t"+printable(gone.DisplayName))
			}
			return words, cobra.ShellCompDirectiveNoFileComp
		},
	}
}

func newForgottenCommand(client *api.Client) *cobra.Command {
	var raw bool
	cmd := &cobra.Command{
		Use:   "forgotten",
		Short: "List the machines that were forgotten and can be taken back",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := client.Forgotten(cmd.Context())
			if err != nil {
				return err
			}
			if raw {
				return printJSON(cmd.OutOrStdout(), all)
			}
			table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(table, "ID\tNAME\tWAS\tPROFILE\tFORGOTTEN")
			for _, gone := range all {
				fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", gone.ID, printable(orDash(gone.DisplayName)), printable(gone.State),
					printable(orDash(gone.Profile)), gone.Time.Local().Format(time.DateTime))
			}
			return table.Flush()
		},
	}
	cmd.Flags().BoolVar(&raw, "json", false, "print JSON")
	return cmd
}
