package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"edeploy/server/api"

	"github.com/spf13/cobra"
)

const forgetLong = `Forget a machine: what it holds, a count and a CMDB entry, becomes free for others, and it is a new machine when it asks again.

A machine that is installed is still running with its address. On a terminal the command asks first; elsewhere it wants --force.
"restore" takes a forgotten machine back with what it held, as long as that is still free; "forgotten" lists them.

--strangers forgets all machines that nobody needs: they hold nothing, are not installed, and no operator has spoken of them.`

type forgetting struct {
	client           *api.Client
	force, strangers bool
	terminal         terminal
}

func newForgetCommand(client *api.Client) *cobra.Command {
	f := forgetting{client: client}
	cmd := &cobra.Command{
		Use:               "forget ID | forget --strangers",
		Aliases:           []string{"delete"},
		Short:             "Forget a machine; its count and CMDB entry are given back",
		Long:              forgetLong,
		Example:           "  edeployctl forget node7\n  edeployctl forget --force 52:54:00:12:34:56",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeMachine(client),
		RunE: printsSentence(func(cmd *cobra.Command, args []string) (string, error) {
			f.terminal = terminalOf(cmd)
			switch {
			case f.strangers == (len(args) == 1):
				return "", unseen(errors.New("which machine? Give its ID, or --strangers"))
			case f.strangers:
				n, err := client.ForgetStrangers(cmd.Context())
				return plural(n, "machine") + " forgotten", err
			}
			return f.one(cmd.Context(), args[0])
		}),
	}
	cmd.Flags().BoolVar(&f.force, "force", false, "do not ask: also a machine that is installed")
	cmd.Flags().BoolVar(&f.strangers, "strangers", false, "all machines that nobody needs")
	return cmd
}

func (f forgetting) one(ctx context.Context, id string) (string, error) {
	gone, err := f.client.Forget(ctx, id, f.force)
	if api.StatusOf(err) == http.StatusConflict && !f.force && f.terminal.there {
		if !f.terminal.confirms(err.Error() + "\nForget it?") {
			return "", errors.New("nothing was changed")
		}
		f.force = true
		return f.one(ctx, id)
	}
	return fmt.Sprintf("machine %s (%s) is forgotten%s", gone.ID, gone.DisplayName, freed(gone)), err
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

func newRestoreCommand(client *api.Client) *cobra.Command {
	return &cobra.Command{
		Use:   "restore ID",
		Short: "Take a forgotten machine back, with what it held",
		Long: `Restore takes back a machine that was forgotten, with its profile, its count and its CMDB entry. When others have taken them
meanwhile, nothing is changed, and the answer says what is in the way.`,
		Args: cobra.ExactArgs(1),
		RunE: printsSentence(func(cmd *cobra.Command, args []string) (string, error) {
			m, err := client.Restore(cmd.Context(), args[0])
			profile := "holds no profile"
			if m.Allocation != nil {
				profile = "holds profile " + m.Allocation.Profile
			}
			return fmt.Sprintf("machine %s (%s) is back: it %s and boots next: %s", m.ID, m.DisplayName, profile, m.NextBoot), err
		}),
		ValidArgsFunction: completes(func(ctx context.Context, before []string) (words []string) {
			if len(before) > 0 {
				return nil
			}
			all, _ := client.Forgotten(ctx) // without an answer there is nothing to complete
			for _, gone := range all {
				words = append(words, gone.ID+"\t"+printable(gone.DisplayName))
			}
			return words
		}),
	}
}

func newForgottenCommand(client *api.Client) *cobra.Command {
	return answers(&cobra.Command{
		Use:   "forgotten",
		Short: "List the machines that were forgotten and can be taken back",
		Args:  cobra.NoArgs,
	}, "print JSON", func(cmd *cobra.Command, _ []string) ([]api.Forgotten, error) {
		return client.Forgotten(cmd.Context())
	}, func(out io.Writer, all []api.Forgotten) error {
		t := newTable(out, "ID", "NAME", "WAS", "PROFILE", "FORGOTTEN")
		for _, gone := range all {
			t.row(gone.ID, orDash(gone.DisplayName), gone.State, orDash(gone.Profile), moment(gone.Time))
		}
		return t.Flush()
	})
}
