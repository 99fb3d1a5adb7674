package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"edeploy/server/internal/allocation"
	"edeploy/server/internal/assign"
	"edeploy/server/internal/literal"
	"edeploy/server/internal/profile"
	"edeploy/server/internal/store"
	"edeploy/server/wire"
)

// plan is a configuration directory from which machines take, in memory only.
type plan struct {
	*allocation.Directory
	held map[string]bool // PROFILE ENTRY: a machine before this one has it
}

func newPlan(dir *profile.Dir) *plan {
	return &plan{new(allocation.Snapshot).Directory(&allocation.Deployment{Dir: dir}), map[string]bool{}}
}

// maxReasons bounds the profiles whose reasons are told for one machine.
const maxReasons = 50

// take gives a machine what it would get.
func (p *plan) take(name string, hw wire.Hardware) gets {
	g := gets{Machine: name}
	d, err := assign.NewFacts(hw).Find(p, func(profile, entry string) bool { return p.held[profile+" "+entry] })
	if err == nil {
		if _, err = p.Dir.Configure(d.Profile); err != nil {
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
	p.Apply(d.Files)
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

func (c matchConfig) plan(machines string, out, stderr io.Writer) error {
	p := newPlan(profile.Open(c.dir, store.OpenFiles(c.dir)))
	if _, err := p.State(); err != nil {
		return unseen(err)
	}
	files, err := descriptions(machines, stderr)
	if err != nil {
		return unseen(err)
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
	if err := show(out, c.raw, answer, printPlanned); err != nil {
		return unseen(err)
	}
	if without > 0 {
		return fmt.Errorf("%d of %s %s no profile", without, plural(len(files), "machine"), verb(without, "gets", "get"))
	}
	return nil
}

// descriptions are the names of the hardware descriptions in a directory; the
// files in it that are none by their name are told on stderr.
func descriptions(dir string, stderr io.Writer) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var skipped []string
	for _, e := range entries {
		switch ext := filepath.Ext(e.Name()); {
		case ext == ".hw" || ext == ".json":
			names = append(names, e.Name())
		case !e.IsDir():
			skipped = append(skipped, e.Name())
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s holds no hardware descriptions: want *.hw or *.json", dir)
	}
	if len(skipped) > 0 {
		fmt.Fprintf(stderr, "skipped, no .hw or .json: %s\n", printable(someOf(skipped)))
	}
	return names, nil
}

// machineName is how a machine is called: by its file.
func machineName(file string) string { return strings.TrimSuffix(file, filepath.Ext(file)) }

func printPlanned(out io.Writer, p planned) error {
	t := newTable(out, "MACHINE", "PROFILE", "VARIABLES", "CMDB ENTRY")
	for _, g := range p.Machines {
		bound := map[string]any{}
		for name, v := range g.Variables {
			if _, entry := g.Entry[name]; !entry && name != "used" {
				bound[name] = v
			}
		}
		t.row(g.Machine, orDash(g.Profile), orDash(bindingsText(bound)), orDash(bindingsText(g.Entry)))
	}
	t.Flush()
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
