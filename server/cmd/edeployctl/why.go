package main

import (
	"fmt"
	"io"
	"strings"

	"edeploy/server/api"
	"edeploy/server/internal/match"
	"edeploy/server/wire"

	"github.com/spf13/cobra"
)

const whyLong = `Tell why a machine got what it got when it last asked the server, and why not the profiles before.

The server keeps this with the machine's history: per profile, in the order of state, line by line which fact was taken and
which variables were bound, the line that found nothing, and the fact that came closest to it. Files that were edited since do
not change it; "match" says what they would do now.`

func newWhyCommand(client *api.Client) *cobra.Command {
	var raw bool
	cmd := &cobra.Command{
		Use:               "explain ID",
		Aliases:           []string{"why"},
		Short:             "Tell why a machine got what it got, and why not the profiles before (ID, MAC address or name)",
		Long:              whyLong,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeMachine(client),
		RunE: func(cmd *cobra.Command, args []string) error {
			if raw {
				return printRaw(cmd, client, api.MachinePath(args[0], "explanation"))
			}
			e, err := client.Explanation(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			printWhy(cmd.OutOrStdout(), args[0], e)
			return nil
		},
	}
	cmd.Flags().BoolVar(&raw, "json", false, "print the server's JSON")
	return cmd
}

func printWhy(out io.Writer, id string, e api.Explanation) {
	fmt.Fprintf(out, "machine %s, deployment %s, %s\n", printable(id), printable(e.Section), moment(e.Time))
	switch {
	case e.Profile != "" && e.Again:
		fmt.Fprintf(out, "got %s, as before\n", printable(e.Profile))
	case e.Profile != "":
		fmt.Fprintf(out, "got %s\n", printable(e.Profile))
	default:
		sentence, _, _ := strings.Cut(e.Refused, "\n") // below, the profiles are told in full
		fmt.Fprintf(out, "got nothing: %s\n", printable(sentence))
	}
	if e.Now != "" {
		fmt.Fprintf(out, "now: %s\n", printable(e.Now))
	}
	if e.Entry != "" {
		fmt.Fprintf(out, "CMDB entry %s\n", printable(e.Entry))
	}
	for _, p := range e.Profiles {
		fmt.Fprintln(out)
		printExplained(out, kept(p))
		if len(p.Lines) == 0 && p.Reason != "" && p.Closest != nil {
			printClosest(out, closest{factOf(p.Closest.Fact), p.Closest.Why})
		}
	}
	if e.More > 0 {
		fmt.Fprintf(out, "\n... and %d more profiles that do not fit\n", e.More)
	}
}

// kept is an explained profile of the server in the form of match.
func kept(p api.ExplainedProfile) explained {
	e := explained{Profile: p.Profile, Fits: p.Fits, GivenUp: p.TooComplex}
	if len(p.Lines) == 0 && !p.Fits {
		e.Problem = p.Reason // no specs, or one that is not told line by line
	}
	for _, l := range p.Lines {
		line := specLine{Line: l.Line, Spec: l.Spec, Why: l.Why, Binds: match.Bindings{}}
		if l.Fact != nil {
			fact := factOf(l.Fact)
			line.Fact = &fact
		}
		for name, value := range l.Bound {
			line.Binds[name] = value
		}
		e.Lines = append(e.Lines, line)
	}
	if n := len(e.Lines); n > 0 && p.Closest != nil {
		e.Lines[n-1].Closest = &closest{factOf(p.Closest.Fact), p.Closest.Why}
	}
	return e
}

func factOf(words []string) wire.Fact {
	var four [4]string
	copy(four[:], words)
	return wire.Fact{Category: four[0], ID: four[1], Field: four[2], Value: four[3]}
}
