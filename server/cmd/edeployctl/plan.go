package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"edeploy/server/internal/assign"
	"edeploy/server/internal/cmdb"
	"edeploy/server/internal/literal"
	"edeploy/server/internal/profile"
	"edeploy/server/internal/state"
	"edeploy/server/wire"
)

// plan is a configuration directory from which machines take, in memory only.
// It is an assign.Source.
type plan struct {
	*profile.Dir
	state *state.State          // as the machines so far leave it; nil: as the file is
	cmdbs map[string]*cmdb.File // those that changed
	held  map[string]bool       // PROFILE ENTRY: a machine before this one has it
}

// State is the state file, less what was taken.
func (p *plan) State() (*state.State, error) {
	if p.state != nil {
		return p.state, nil
	}
	return p.Dir.State()
}

// CMDB is a CMDB, less what was taken.
func (p *plan) CMDB(name string) (*cmdb.File, error) {
	if f, ok := p.cmdbs[name]; ok {
		return f, nil
	}
	return p.Dir.CMDB(name)
}

// maxReasons bounds the profiles whose reasons are told for one machine.
const maxReasons = 50

// take gives a machine what it would get.
func (p *plan) take(name string, hw wire.Hardware) gets {
	g := gets{Machine: name}
	d, err := assign.NewFacts(hw).Find(p, func(profile, entry string) bool { return p.held[profile+" "+entry] })
	if err == nil {
		if _, err = p.Configure(d.Profile); err != nil {
			err = fmt.Errorf("%s fits, but %w", d.Profile, err)
		}
	}
	if err != nil {
		g.Message = p.refusal(err, hw)
		var reasons *assign.Error
		if errors.As(err, &reasons) {
			for _, a := range reasons.Tried.Attempts(maxReasons) {
				g.Tried = append(g.Tried, tried{a.Profile, a.Reason, a.Closest()})
			}
		}
		return g
	}
	for _, f := range d.Files {
		p.keep(f)
	}
	if p.held == nil {
		p.held = map[string]bool{}
	}
	p.held[d.Profile+" "+d.Holding.After] = true
	g.Profile = d.Profile
	g.Variables = map[string]any{}
	for k, v := range d.Var.All() {
		name := literal.Text(k)
		g.Variables[name] = v
		if _, bound := d.Bindings[name]; !bound && name != "used" {
			if g.Entry == nil {
				g.Entry = map[string]any{}
			}
			g.Entry[name] = v
		}
	}
	return g
}

// keep takes on a file that the decision would write.
func (p *plan) keep(f assign.File) {
	switch {
	case f.State != nil:
		p.state = f.State
	case f.CMDB != nil:
		if p.cmdbs == nil {
			p.cmdbs = map[string]*cmdb.File{}
		}
		p.cmdbs[f.Profile] = f.CMDB
	}
}

// planned is what match --all answers.
type planned struct {
	Machines []gets     `json:"machines"`
	Left     []leftover `json:"left"` // of the state file, when all have theirs
}

// leftover is a profile and how many more machines it takes.
type leftover struct {
	Profile string `json:"profile"`
	Count   any    `json:"count"` // a number or "*"
}

// plan answers what all machines of a directory would get.
func (c matchConfig) plan(machines string, out, stderr io.Writer) error {
	p := &plan{Dir: profile.Open(c.dir)}
	if _, err := p.State(); err != nil {
		return unseen(err)
	}
	files, skipped, err := descriptions(machines)
	if err != nil {
		return unseen(err)
	}
	if len(skipped) > 0 {
		fmt.Fprintf(stderr, "skipped, no .hw or .json: %s\n", printable(someOf(skipped)))
	}
	answer := planned{Machines: []gets{}}
	without := 0
	for _, file := range files {
		hw, err := readHardware(filepath.Join(machines, file))
		if err != nil {
			return unseen(err)
		}
		g := p.take(machineName(file), hw)
		if g.Profile == "" {
			without++
		}
		answer.Machines = append(answer.Machines, g)
	}
	st, err := p.State()
	if err != nil {
		return unseen(err)
	}
	for _, name := range profilesOf(st) {
		answer.Left = append(answer.Left, leftover{name, countOf(st, name)})
	}
	if err := printPlanned(out, answer, c.raw); err != nil {
		return unseen(err)
	}
	if without > 0 {
		return fmt.Errorf("%d of %s %s no profile", without, plural(len(files), "machine"), verb(without, "gets", "get"))
	}
	return nil
}

// descriptions are the names of the hardware descriptions in a directory, and
// of the files in it that are none by their name.
func descriptions(dir string) (names, skipped []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		switch ext := filepath.Ext(e.Name()); {
		case ext == ".hw" || ext == ".json":
			names = append(names, e.Name())
		case !e.IsDir():
			skipped = append(skipped, e.Name())
		}
	}
	if len(names) == 0 {
		return nil, nil, fmt.Errorf("%s holds no hardware descriptions: want *.hw or *.json", dir)
	}
	return names, skipped, nil
}

// machineName is how a machine is called: by its file.
func machineName(file string) string { return strings.TrimSuffix(file, filepath.Ext(file)) }

func printPlanned(out io.Writer, p planned, raw bool) error {
	if raw {
		return printJSON(out, p)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "MACHINE\tPROFILE\tVARIABLES\tCMDB ENTRY")
	for _, g := range p.Machines {
		bound := map[string]any{}
		for name, v := range g.Variables {
			if _, entry := g.Entry[name]; !entry && name != "used" {
				bound[name] = v
			}
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", printable(g.Machine), printable(cmp.Or(g.Profile, "-")),
			printable(cmp.Or(bindingsText(bound), "-")), printable(cmp.Or(bindingsText(g.Entry), "-")))
	}
	table.Flush()
	for _, g := range p.Machines {
		if g.Profile != "" {
			continue
		}
		fmt.Fprintf(out, "\n%s gets no profile: %s\n", printable(g.Machine), printable(g.Message))
		for _, t := range g.Tried {
			fmt.Fprintf(out, "    %s\n", printable(t.Reason))
			if t.Closest != "" {
				fmt.Fprintf(out, "        closest is %s\n", printable(t.Closest))
			}
		}
	}
	var words []string
	for _, l := range p.Left {
		words = append(words, fmt.Sprintf("%s %v", l.Profile, l.Count))
	}
	fmt.Fprintf(out, "\nleft: %s\n", printable(strings.Join(words, ", ")))
	return nil
}
