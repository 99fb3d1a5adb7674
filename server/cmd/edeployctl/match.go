package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"edeploy/server/internal/assign"
	"edeploy/server/internal/literal"
	"edeploy/server/internal/match"
	"edeploy/server/internal/profile"
	"edeploy/server/internal/state"
	"edeploy/server/internal/store"
	"edeploy/server/internal/upload"
	"edeploy/server/wire"

	"github.com/spf13/cobra"
)

const matchLong = `Match answers what a machine would get under the files of a configuration
directory, before they go live. Nothing is allocated, no server is asked.

  match HW            every profile, in the order of the state file
  match HW PROFILE    one profile, listed in state or not
  match --all DIR     what all machines in DIR would get, one after the other

HW is a hardware description: the JSON that an agent uploads, or a .hw file of
the server. Each line of a profile's specs is shown with the fact that it takes
and the variables that it binds, up to the line that finds nothing: then with
the fact that comes closest, and what is wrong with that.

With --all every .hw and .json file of DIR is a machine. They ask in the order of
their names; each takes a count of the state file and a CMDB entry away from
those behind it, as it would on the server.

The exit status is 0 when the machine (with --all: every machine) gets a
profile, 1 when not, and 2 when a file could not be read.`

var errNoFit = errors.New("no profile fits")

type matchConfig struct {
	dir      string
	all, raw bool
}

func newMatchCommand() *cobra.Command {
	var c matchConfig
	cmd := &cobra.Command{
		Use:     "match HW [PROFILE] | match --all DIR",
		Short:   "Explain what machines would get under a directory of profiles, and why not",
		Long:    matchLong,
		Example: "  edeployctl match rack1.hw --config profiles\n  edeployctl match rack1.hw vm --config profiles\n  edeployctl match --all machines --config profiles",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if c.all && len(args) > 1 {
				return unseen(errors.New("match --all takes one directory"))
			}
			if c.all {
				return c.plan(args[0], cmd.OutOrStdout(), cmd.ErrOrStderr())
			}
			return c.run(args, cmd.OutOrStdout())
		},
		ValidArgsFunction: c.complete,
	}
	cmd.Flags().StringVar(&c.dir, "config", ".", "configuration directory (CONFIGDIR)")
	cmd.Flags().BoolVar(&c.all, "all", false, "the argument is a directory of hardware descriptions")
	cmd.Flags().BoolVar(&c.raw, "json", false, "print JSON")
	return cmd
}

func (c *matchConfig) complete(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) != 1 || c.all {
		return nil, cobra.ShellCompDirectiveDefault
	}
	st, err := profile.Open(c.dir, store.OpenFiles(c.dir)).State()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return profilesOf(st), cobra.ShellCompDirectiveNoFileComp
}

// matched is the answer about one machine.
type matched struct {
	Profiles []explained `json:"profiles"`
	Gets     *gets       `json:"gets,omitempty"` // not when a profile was named
}

func (c matchConfig) run(args []string, out io.Writer) error {
	answer, err := c.match(args)
	if err == nil {
		err = show(out, c.raw, answer, printMatched)
	}
	if err != nil {
		return unseen(err)
	}
	one := answer.Profiles
	switch {
	case answer.Gets != nil && answer.Gets.Profile != "":
		return nil
	case answer.Gets != nil:
		return errNoFit
	case one[0].Problem != "":
		return unseen(errors.New(one[0].Problem))
	case one[0].Refused != "":
		return fmt.Errorf("%s is not given to this machine", args[1])
	case !one[0].Fits:
		return errNoFit
	}
	return nil
}

func (c matchConfig) match(args []string) (answer matched, err error) {
	hw, err := readHardware(args[0])
	if err != nil {
		return answer, err
	}
	dir := profile.Open(c.dir, store.OpenFiles(c.dir))
	st, err := dir.State()
	names := args[1:]
	if len(names) == 0 {
		if err != nil {
			return answer, err
		}
		names = profilesOf(st)
		g := newPlan(dir).take("", hw)
		answer.Gets = &g
	}
	index := match.NewIndex(hw)
	for _, name := range names {
		if err := profile.CheckName(name); err != nil {
			return answer, err
		}
		one := explain(index, dir, name)
		one.Count = countOf(st, name)
		if one.Fits {
			if one.Refused, err = refused(dir, name, hw, one.Count); err != nil {
				return answer, err
			}
		}
		answer.Profiles = append(answer.Profiles, one)
	}
	return answer, nil
}

// refused says why a machine that fits a profile's specs gets nothing; "": it
// gets the profile. It is looked at as if it were the only one, however few it
// takes.
func refused(dir *profile.Dir, name string, hw wire.Hardware, count any) (string, error) {
	st, err := state.Parse(stateFile, "[("+literal.Repr(name)+", '*')]")
	if err != nil {
		return "", err
	}
	p := newPlan(dir)
	p.Apply([]assign.File{{Name: stateFile, State: st}})
	if g := p.take("", hw); g.Profile == "" {
		return strings.TrimPrefix(g.Message, name+" fits, but "), nil
	}
	if count == int64(0) {
		return "its count is 0: edeployctl state set " + name + " N", nil
	}
	return "", nil
}

func printMatched(out io.Writer, answer matched) error {
	for i, one := range answer.Profiles {
		if i > 0 {
			fmt.Fprintln(out)
		}
		printExplained(out, one)
	}
	if answer.Gets != nil {
		fmt.Fprintln(out)
		printGets(out, *answer.Gets)
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

// profilesOf are the profiles of a state file, each once.
func profilesOf(st *state.State) []string {
	var names []string
	for _, pair := range st.Pairs() {
		if !slices.Contains(names, pair.Profile) {
			names = append(names, pair.Profile)
		}
	}
	return names
}

// countOf is a profile's count: a number, "*", or nil when it is not listed.
// Several pairs of a profile count together.
func countOf(st *state.State, name string) any {
	if st == nil || st.Find(name) < 0 {
		return nil
	}
	total := int64(0)
	for _, pair := range st.Pairs() {
		switch {
		case pair.Profile != name:
		case pair.Unlimited:
			return "*"
		default:
			total += max(pair.Count, 0)
		}
	}
	return total
}

func printExplained(out io.Writer, e explained) {
	word := "does not fit"
	if e.Fits {
		word = "fits"
	}
	if e.Problem != "" {
		fmt.Fprintf(out, "%s: %s\n", printable(e.Profile), printable(e.Problem))
		return
	}
	if e.Refused != "" {
		word += ", but " + e.Refused
	}
	fmt.Fprintf(out, "%s: %s%s\n", printable(e.Profile), printable(word), countText(e))
	t := newTable(out)
	for _, l := range e.Lines {
		cells := []any{fmt.Sprintf("  line %d", l.Line), l.Spec, "finds nothing"}
		switch {
		case l.Fact != nil:
			cells[2] = "takes " + assign.FactText(*l.Fact)
		case len(l.Binds) > 0:
			cells[2] = "chooses"
		}
		if len(l.Binds) > 0 {
			cells = append(cells, bindingsText(l.Binds))
		}
		t.row(cells...)
	}
	t.Flush()
	if e.GivenUp {
		fmt.Fprintln(out, "  the search was given up: too many combinations to try")
	}
	if n := len(e.Lines); n > 0 && e.Lines[n-1].Why != "" {
		fmt.Fprintf(out, "  %s\n", printable(e.Lines[n-1].Why))
	} else if n > 0 && e.Lines[n-1].Closest != nil {
		printClosest(out, *e.Lines[n-1].Closest)
	}
}

func printClosest(out io.Writer, c closest) {
	fmt.Fprintf(out, "  closest is %s: %s\n", printable(assign.FactText(c.Fact)), printable(strings.Join(c.Why, ", ")))
}

func countText(e explained) string {
	switch e.Count {
	case nil, "*":
		return ""
	case int64(0):
		if e.Refused != "" {
			return ""
		}
	}
	return fmt.Sprintf(" (%v left)", e.Count)
}

func printGets(out io.Writer, g gets) {
	if g.Profile == "" {
		fmt.Fprintf(out, "The machine gets no profile: %s\n", printable(g.Message))
		return
	}
	fmt.Fprintf(out, "The machine gets %s with\n", printable(g.Profile))
	for _, name := range slices.Sorted(maps.Keys(g.Variables)) {
		fmt.Fprintf(out, "    %s = %s\n", printable(name), printable(literal.Repr(g.Variables[name])))
	}
}

type gets struct {
	Machine   string         `json:"machine,omitempty"`
	Profile   string         `json:"profile,omitempty"` // "": none
	Variables map[string]any `json:"variables,omitempty"`
	Entry     map[string]any `json:"entry,omitempty"`   // what of it comes from the CMDB
	Message   string         `json:"message,omitempty"` // why there is none
	Tried     []tried        `json:"tried,omitempty"`   // profiles that do not fit
}

type tried struct {
	Profile string `json:"profile"`
	Reason  string `json:"reason"`
	Closest string `json:"closest,omitempty"` // the fact that came closest, and what is wrong with it
}
