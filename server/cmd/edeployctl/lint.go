package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"

	"edeploy/server/api"
	"edeploy/server/internal/lint"
	"edeploy/server/wire"

	"github.com/spf13/cobra"
)

const lintLong = `Lint reads every file of an eDeploy configuration directory and says what runs
here unchanged, and what does not and why. Nothing is changed, and no server is
asked without --live. Take it first when you bring an existing configuration:

  state            profiles without files, profiles that are listed twice
  NAME.specs       missing commas, unknown helpers, wrong arguments, lines that
                   can never match
  NAME.cmdb        texts that are ranges by accident (dates, UUIDs), lists of
                   different length, entries that no machine can get
  NAME.configure   statements that need real Python, names that are not there,
                   variables that neither specs nor CMDB give
  NAME.bill        bills of materials that are broken, missing, or that no
                   profile expects
  authorized_keys  lines that are no public key, keys with options
  *.hw             hardware descriptions that cannot be read

With --machines DIR or --live it also knows machines: a fact that none of them
has is misspelt, and a machine that fits a profile needs a CMDB entry with its
values ($$). With --live, CMDB addresses that DHCP gives away, too, are told.

An error is something that does not work; a warning works, but hardly as it was
meant. The exit status is 0 when there is nothing to mend, 1 when there is, and
2 when the directory could not be read.`

func newLintCommand(client *api.Client) *cobra.Command {
	var compare bool
	var machines string
	cmd := &cobra.Command{
		Use:               "lint CONFIGDIR",
		Short:             "Check an existing eDeploy configuration: what runs unchanged, what does not, and why",
		Long:              lintLong,
		Example:           "  edeployctl lint /etc/edeploy/config\n  edeployctl lint --json profiles | jq '.findings[].text'",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeDirectory,
	}
	cmd.Flags().StringVar(&machines, "machines", "", "compare with the hardware descriptions of this directory (hw pull fetches them)")
	cmd.Flags().BoolVar(&compare, "live", false, "compare with the machines and the DHCP range of the server")
	return answers(cmd, "print JSON: files (name verdict errors warnings) and findings (file line column severity text)",
		func(cmd *cobra.Command, args []string) (report lint.Report, err error) {
			known, err := comparison(cmd, client, machines, compare)
			if err == nil {
				report, err = lint.Dir(args[0], known)
			}
			return report, unseen(err)
		}, printReport, func(r lint.Report) error {
			if len(r.Findings) == 0 {
				return nil
			}
			return errors.New(plural(r.Count(lint.Error), "error") + ", " + plural(r.Count(lint.Warning), "warning"))
		})
}

func comparison(cmd *cobra.Command, client *api.Client, machines string, live bool) (known lint.Known, err error) {
	if machines != "" {
		if known.Machines, err = readAllHardware(machines); err != nil {
			return known, err
		}
	}
	if !live {
		return known, nil
	}
	if known.First, known.Last, err = dhcpRange(cmd.Context(), client); err != nil || machines != "" {
		return known, err
	}
	known.Machines, err = knownHardware(cmd.Context(), client, cmd.ErrOrStderr())
	return known, err
}

func readAllHardware(dir string) (map[string]wire.Hardware, error) {
	files, err := descriptions(dir, io.Discard)
	if err != nil {
		return nil, err
	}
	all := map[string]wire.Hardware{}
	for _, file := range files {
		if all[machineName(file)], err = readHardware(filepath.Join(dir, file)); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// dhcpRange asks the server which addresses DHCP gives to any machine.
func dhcpRange(ctx context.Context, client *api.Client) (first, last netip.Addr, err error) {
	v, err := client.Version(ctx)
	if v.DHCP == nil {
		return first, last, err
	}
	return v.DHCP.First, v.DHCP.Last, err
}

func printReport(out io.Writer, r lint.Report) error {
	for _, f := range r.Findings {
		fmt.Fprintln(out, printable(f.String()))
	}
	if len(r.Findings) > 0 {
		fmt.Fprintln(out)
	}
	t := newTable(out, "FILE", "VERDICT")
	for _, f := range r.Files {
		t.row(f.Name, f.Verdict)
	}
	return t.Flush()
}
