package main

import (
	"cmp"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"edeploy/server/api"
	"edeploy/server/internal/literal"
	"edeploy/server/internal/state"

	"github.com/spf13/cobra"
)

func newStateCommand(client *api.Client) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "state",
		Short: "See and set how many more machines each profile takes",
		Long: `The state file lists the profiles in order of priority, each with the number of
machines that it takes from now on, or '*' for any number. A machine gets the
first profile that has a count left and fits; the count then goes down by one,
and up again when the machine fails or is forgotten.

Both commands ask the server, or work on a directory (--config DIR).`,
	}
	cmd.AddCommand(newStateShowCommand(client), newStateSetCommand(client))
	return cmd
}

func newStateShowCommand(client *api.Client) *cobra.Command {
	p := place{client: client}
	cmd := &cobra.Command{
		Use:     "show",
		Aliases: []string{"list", "ls"},
		Short:   "List the profiles and their counts",
		Example: "  edeployctl state show\n  edeployctl state show --config profiles --json",
		Args:    cobra.NoArgs,
	}
	p.flags(cmd)
	return answers(cmd, "print JSON: a list of profile and count", func(cmd *cobra.Command, _ []string) ([]leftover, error) {
		st, err := p.state(cmd.Context())
		if err != nil {
			return nil, err
		}
		all := []leftover{}
		for _, pair := range st.Pairs() {
			count := any(pair.Count)
			if pair.Unlimited {
				count = "*"
			}
			all = append(all, leftover{pair.Profile, count})
		}
		return all, nil
	}, func(out io.Writer, all []leftover) error {
		t := newTable(out, "PROFILE", "COUNT")
		for _, l := range all {
			t.row(l.Profile, l.Count)
		}
		return t.Flush()
	})
}

func newStateSetCommand(client *api.Client) *cobra.Command {
	p := place{client: client}
	cmd := &cobra.Command{
		Use:   "set PROFILE COUNT",
		Short: "Set how many more machines a profile takes",
		Long: `Set replaces one count of the state file: a number, or '*' for any number of
machines. Everything else in the file stays as it is, comments too. A profile
that is listed twice gets it at its first place. To add a profile, or to change
the order, edit the file and bring it with config push.

The server replaces the file only as it was read, so counts that machines take at
the same moment are not lost.`,
		Example: "  edeployctl state set web 12\n  edeployctl state set spare '*'",
		Args:    cobra.ExactArgs(2),
		RunE: printsSentence(func(cmd *cobra.Command, args []string) (string, error) {
			was := ""
			err := change(cmd.Context(), p.documents(), stateFile, func(text string) (after string, err error) {
				was, after, err = withCount(text, args[0], args[1])
				return after, err
			})
			return fmt.Sprintf("%s: %s -> %s", args[0], was, args[1]), err
		}),
		ValidArgsFunction: p.complete,
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if is := negative.FindString(err.Error()); is != "" {
			return unseen(fmt.Errorf("count %s: want a number, 0 or more, or '*'", is))
		}
		return cmd.Root().FlagErrorFunc()(cmd, err)
	})
	p.flags(cmd)
	return cmd
}

// negative is a number that was taken for an option.
var negative = regexp.MustCompile(`-[0-9]+$`)

// withCount is the text of a state file with one count replaced.
func withCount(text, profile, count string) (was, after string, err error) {
	written := "'*'"
	if count != "*" {
		n, err := strconv.ParseUint(count, 10, 62)
		if err != nil {
			return "", "", fmt.Errorf("count %q: want a number, 0 or more, or '*'", count)
		}
		written = strconv.FormatUint(n, 10)
	}
	st, err := state.Parse(stateFile, text)
	if err != nil {
		return "", "", err
	}
	doc, err := literal.Parse(stateFile, text)
	if err != nil {
		return "", "", err
	}
	i := st.Find(profile)
	if i < 0 {
		return "", "", fmt.Errorf("profile %s is not in state: it has %s", profile, cmp.Or(strings.Join(profilesOf(st), ", "), "nothing"))
	}
	node := doc.Node.Items[i].Items[1]
	return literal.Text(node.Value), text[:node.Start] + written + text[node.End:], nil
}
