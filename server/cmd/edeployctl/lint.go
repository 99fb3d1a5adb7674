package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"edeploy/server/internal/lint"

	"github.com/spf13/cobra"
)

const lintLong = `Lint reads every file of an eDeploy configuration directory and says what runs
here unchanged, and what does not and why. Nothing is changed, no server is
asked. Take it first when you bring an existing eDeploy configuration:

  state            profiles without files, profiles that are listed twice
  NAME.specs       missing commas, unknown helpers, wrong arguments, lines that
                   can never match
  NAME.cmdb        texts that are ranges by accident (dates, UUIDs), lists of
                   different length, entries that no machine can get
  NAME.configure   statements that need real Python, names that are not there,
                   variables that neither specs nor CMDB give
  *.hw             hardware descriptions that cannot be read

An error is something that does not work; a warning works, but hardly as it was
meant. The exit status is 0 when there is nothing to mend, 1 when there is, and
2 when the directory could not be read.`

func newLintCommand(_ *string) *cobra.Command {
	var raw bool
	cmd := &cobra.Command{
		Use:     "lint CONFIGDIR",
		Short:   "Check an existing eDeploy configuration: what runs unchanged, what does not, and why",
		Long:    lintLong,
		Example: "  edeployctl lint /etc/edeploy/config\n  edeployctl lint --json profiles | jq '.findings[].text'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			report, err := lint.Dir(args[0])
			if err != nil {
				return unseen(err)
			}
			return printLint(cmd.OutOrStdout(), report, raw)
		},
		ValidArgsFunction: completeDirectory,
	}
	cmd.Flags().BoolVar(&raw, "json", false, "print JSON: files (name verdict errors warnings) and findings (file line column severity text)")
	return cmd
}

func printLint(out io.Writer, r lint.Report, raw bool) error {
	if raw {
		if err := printJSON(out, r); err != nil {
			return unseen(err)
		}
	} else {
		printReport(out, r)
	}
	if len(r.Findings) > 0 {
		return errors.New(plural(r.Count(lint.Error), "error") + ", " + plural(r.Count(lint.Warning), "warning"))
	}
	return nil
}

func printReport(out io.Writer, r lint.Report) {
	for _, f := range r.Findings {
		fmt.Fprintln(out, printable(f.String()))
	}
	if len(r.Findings) > 0 {
		fmt.Fprintln(out)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "FILE\tVERDICT")
	for _, f := range r.Files {
		fmt.Fprintf(table, "%s\t%s\n", printable(f.Name), printable(f.Verdict))
	}
	table.Flush()
}

// printJSON writes what scripts read.
func printJSON(out io.Writer, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n", text)
	return err
}

// completeDirectory lets the shell complete the name of a directory.
func completeDirectory(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveFilterDirs
}
