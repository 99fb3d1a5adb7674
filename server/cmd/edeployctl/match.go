package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"edeploy/server/internal/literal"
	"edeploy/server/internal/match"
	"edeploy/server/internal/profile"
	"edeploy/server/internal/upload"
	"edeploy/server/wire"

	"github.com/spf13/cobra"
)

type matchConfig struct{ dir string }

func newMatchCommand() *cobra.Command {
	var c matchConfig
	cmd := &cobra.Command{
		Use:   "match HW [PROFILE]",
		Short: "Explain which profiles fit a hardware description, and why the others do not",
		Long: `Match reads a hardware description (JSON, or a .hw file of the server) and the
specs of the profiles in the order of the state file, and prints for each one
its variables, or the first spec that finds nothing. Nothing is allocated.
The exit status is 1 when no profile fits.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(args, cmd.OutOrStdout()) },
	}
	cmd.Flags().StringVar(&c.dir, "config", ".", "configuration directory (CONFIGDIR)")
	return cmd
}

func (c matchConfig) run(args []string, out io.Writer) error {
	hw, err := readHardware(args[0])
	if err != nil {
		return err
	}
	dir := profile.Open(c.dir)
	names := args[1:]
	if len(names) == 0 {
		if names, err = profilesOf(dir); err != nil {
			return err
		}
	}
	index := match.NewIndex(hw)
	fits := false
	for _, name := range names {
		if err := profile.CheckName(name); err != nil {
			return err
		}
		specs, err := dir.Specs(name)
		if err != nil {
			fmt.Fprintf(out, "%s: %v\n", name, err)
			continue
		}
		result := index.Match(specs)
		fits = fits || result.OK
		explain(out, name, result)
	}
	if !fits {
		return errors.New("no profile fits")
	}
	return nil
}

func readHardware(path string) (wire.Hardware, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	hw, err := upload.ParseHardware(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return hw, nil
}

func profilesOf(dir *profile.Dir) ([]string, error) {
	st, err := dir.State()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, pair := range st.Pairs() {
		if !slices.Contains(names, pair.Profile) {
			names = append(names, pair.Profile)
		}
	}
	return names, nil
}

func explain(out io.Writer, name string, r match.Result) {
	if r.OK {
		fmt.Fprintf(out, "%s: fits\n", name)
		printBindings(out, r.Bindings)
		return
	}
	if r.Failure == nil {
		fmt.Fprintf(out, "%s: does not fit\n", name)
		return
	}
	reason := "nothing fits"
	if r.Failure.TooComplex {
		reason = "the search was given up, it is too long, at"
	}
	fmt.Fprintf(out, "%s: line %d: %s %s\n", name, r.Failure.Line, reason, r.Failure.Spec)
	printBindings(out, r.Failure.Bound)
}

func printBindings(out io.Writer, b match.Bindings) {
	for _, name := range slices.Sorted(maps.Keys(b)) {
		fmt.Fprintf(out, "    %s = %s\n", name, printable(literal.Repr(b[name])))
	}
}
