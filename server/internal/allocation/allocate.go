package allocation

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"edeploy/server/api"
	"edeploy/server/internal/assign"
	"edeploy/server/internal/literal"
	"edeploy/server/internal/machine"
	"edeploy/server/internal/refusal"
	"edeploy/server/wire"
)

// Request is one upload of a hardware description.
type Request struct {
	Deployment   *Deployment
	Facts        *assign.Facts
	Identity     wire.Identity
	Failure      string // profile whose installation failed; "": the machine asks for its configuration
	Name         string // sysname
	Model        string // vendor and product
	HardwareFile string // where the description was saved, "" when it was not
	Came         time.Time
}

// Sections are the deployments whose files the decision may change: that of
// the request, and the one that the machine has its allocation from.
func (q Request) Sections(index *machine.Index) []string {
	sections := []string{q.Deployment.Name}
	for _, mac := range q.Identity.MACs {
		if r, ok := index.ByMAC(mac); ok && r.Allocation != nil {
			sections = append(sections, r.Allocation.Section)
		}
	}
	return sections
}

// Match makes the matches that the decision will most likely need, before its
// turn comes and while nobody waits for it.
func Match(s *Snapshot, q Request) {
	held := ""
	if r, known, err := s.Machines.Find(q.Identity); err == nil && known && r.Allocation != nil {
		held = r.Allocation.Profile
	}
	q.Facts.Foresee(s.Directory(q.Deployment), held)
}

// Allocate gives a machine its profile: the one it holds, or a new one. The
// record, the state and the CMDB change together. An error leaves no trace in
// the machine's record, because it is not known which record that would be;
// other refusals are in the outcome.
func Allocate(s *Snapshot, q Request) (Outcome, Changes, error) {
	admitted, err := s.Machines.Admit(q.Identity)
	var out Outcome
	if errors.Is(err, machine.ErrAmbiguous) || errors.Is(err, machine.ErrKept) {
		out.Notes = []Note{{Doubt, q.Deployment.Name, fmt.Sprintf("A machine was refused: %v.", err)}}
	}
	if err != nil {
		return out, Changes{}, identityRefused("hardware description", err)
	}
	r, replaced := arrive(s, admitted.Record)
	var c Changes
	if admitted.New && len(replaced) == 0 {
		if c, err = room(s); err != nil {
			return out, Changes{}, err
		}
	}
	c.Removed, c.Lost = append(c.Removed, replaced...), append(c.Lost, replaced...)
	r.Section, r.Name, r.Model = q.Deployment.Name, q.Name, q.Model
	if q.HardwareFile != "" {
		r.HardwareFile = q.HardwareFile
	}
	out.Record = r
	out.Lines = []api.HistoryLine{{Time: q.Came, Step: "upload", Status: "note", Message: fmt.Sprintf("%d facts", len(q.Facts.Hardware()))}}
	a := &allocating{snapshot: s, request: q, Outcome: out, directory: s.Directory(q.Deployment)}
	a.changed = []*Directory{a.directory}
	a.decide()
	c.Records, c.Directories = append([]machine.Record{a.Record}, admitted.Others...), a.changed
	return a.Outcome, c, nil
}

type allocating struct {
	Outcome
	snapshot  *Snapshot
	request   Request
	directory *Directory   // of the request's deployment
	changed   []*Directory // all that change
}

// decide finds out what the machine gets, or why it gets nothing.
func (a *allocating) decide() {
	if err := heldBack(a.Record); err != nil {
		a.refuse(err, a.Record.State)
		return
	}
	before, changedBefore := a.Record, a.changed
	a.letPass()
	decision, err := a.choose()
	var why *assign.Error
	var configuration wire.Configuration
	switch {
	case err == nil:
		a.Tried, a.Decision = decision.Tried, &decision
		configuration, err = a.configuration(decision)
	case errors.As(err, &why):
		a.Tried = why.Tried
		if why.Differs != nil {
			a.Record.Differs = why.Differs
		}
		err = explain(why)
	}
	if errors.Is(err, refusal.Broken) { // nothing is given up because of a typing error
		a.Record, a.changed = before, changedBefore
		a.directory.undo()
	}
	if err != nil {
		a.refuse(err, machine.Failed)
		return
	}
	a.Configuration = &configuration
	a.grant(decision)
}

// letPass forgets what differed from the expected hardware, but for what the
// operator has let pass: that holds until the machine is installed.
func (a *allocating) letPass() {
	is := a.Record.Differs
	a.request.Facts.Anyway = ""
	if is == nil || !is.Anyway {
		a.Record.Differs = nil
		return
	}
	a.request.Facts.Anyway = is.Mark
}

// heldBack: the operator wants this machine to do something else, or it is
// installed and nobody has said that it is to be installed again.
func heldBack(r machine.Record) error {
	switch {
	case r.State == machine.Installed && r.Boot == machine.Auto:
		return refusal.New(refusal.Conflict, "machine %s is installed, and is installed again only when the operator says so: edeployctl reinstall %s", r.ID, r.ID)
	case r.Kept() && r.Boot != machine.Reinstall:
		return refusal.New(refusal.Conflict, "the operator has set machine %s to %s, so it gets no configuration: edeployctl release %s lets it go on, edeployctl reinstall %s installs it", r.ID, r.Boot, r.ID, r.ID)
	}
	return nil
}

// choose finds the profile: the one the machine holds, else the first that
// fits.
func (a *allocating) choose() (assign.Decision, error) {
	if a.Record.Allocation != nil {
		decision, err := a.again()
		if !errors.Is(err, assign.ErrNoMatch) && !errors.Is(err, assign.ErrGone) {
			a.complain(decision.Problems)
			return decision, err
		}
		if a.Record.State == machine.Installed {
			return decision, refusal.New(refusal.Conflict, "machine %s is installed with profile %s, which it cannot get again: %v. It keeps what it holds until it is forgotten: edeployctl forget %s",
				a.Record.ID, a.Record.Allocation.Profile, err, a.Record.ID)
		}
		if err := a.giveBack(err); err != nil {
			return decision, err
		}
	}
	decision, err := a.request.Facts.Find(a.directory, others(a.snapshot, a.Record.ID, a.directory.ConfigDir))
	if err == nil {
		a.directory.Apply(decision.Files)
	}
	a.complain(decision.Problems)
	return decision, err
}

func (a *allocating) complain(problems []string) {
	for _, text := range problems {
		a.Notes = append(a.Notes, Note{Mistake, a.directory.Name, text})
	}
}

// again decides for a machine that holds a profile.
func (a *allocating) again() (assign.Decision, error) {
	held := a.Record.Allocation
	if held.Section != a.directory.Name {
		return assign.Decision{}, fmt.Errorf("%w: it is from deployment %s, the machine asks deployment %s", assign.ErrGone, held.Section, a.directory.Name)
	}
	// Without this a typing error in the specs would look like a machine that
	// does not fit any more.
	if specs, err := a.directory.Specs(held.Profile); specs == nil {
		return assign.Decision{}, refusal.New(refusal.Broken, "machine %s holds profile %s, whose specs cannot be had: %v", a.Record.ID, held.Profile, err)
	}
	decision, err := a.request.Facts.Again(a.directory, held.Holding, others(a.snapshot, a.Record.ID, a.directory.ConfigDir))
	if err == nil {
		a.directory.Apply(decision.Files)
	}
	return decision, err
}

// giveBack releases what the machine holds, because of a reason.
func (a *allocating) giveBack(reason error) error {
	held := a.Record.Allocation
	d := a.directory
	if held.Section != d.Name {
		of := a.snapshot.Site.Deployments[held.Section]
		if of == nil {
			a.Notes = append(a.Notes, deploymentGone(a.Record))
			a.Record.Allocation = nil
			return nil
		}
		if of.ConfigDir != d.ConfigDir {
			d = a.snapshot.Directory(of)
			a.changed = append(a.changed, d)
		}
	}
	files, err := assign.Release(d, held.Holding)
	if err != nil {
		return err
	}
	d.Apply(files)
	a.line("match", "note", "gave profile %s back: %v", held.Profile, reason)
	a.Record.Allocation = nil
	return nil
}

// others answers whether a CMDB entry of a profile is held by another machine
// than id.
func others(s *Snapshot, id, configDir string) assign.Others {
	var held map[[2]string]bool // made when it is first asked for
	return func(profile, entry string) bool {
		if held == nil {
			held = map[[2]string]bool{}
			for _, r := range s.Machines.All() {
				if a := r.Allocation; a != nil && r.ID != id && a.After != "" && s.Site.sectionWith(a.Section, configDir) {
					held[[2]string{a.Profile, a.After}] = true
				}
			}
		}
		return held[[2]string{profile, entry}]
	}
}

func (a *allocating) configuration(decision assign.Decision) (wire.Configuration, error) {
	text, err := a.directory.Dir.Configure(decision.Profile)
	if err != nil {
		return wire.Configuration{}, refusal.New(refusal.Broken, "profile %s fits machine %s, but its script cannot be had: %v", decision.Profile, a.Record.ID, err)
	}
	c := configuration(decision.Profile, decision.Var, text)
	c.Script = withVariables(c, a.directory.Deployment)
	c.Disks, c.Wipe = a.Record.Written(), a.directory.Wipe
	if is := a.Record.Foreign; is != nil && is.Anyway {
		for _, d := range is.Disks {
			c.Disks = append(c.Disks, d.Mark)
		}
	}
	if specs, _ := a.directory.Specs(decision.Profile); specs != nil { // the last good ones decide
		c.Wipe = c.Wipe.Stricter(specs.Wipe)
	}
	return c, nil
}

// configuration is the answer (reference section 4.4): the variables with the
// profile's name added are one dictionary with sorted keys, in ASCII, that
// Python and Starlark read alike.
func configuration(profile string, vars *literal.Dict, script string) wire.Configuration {
	all := vars.Clone()
	all.Set("edeploy-profile", profile)
	return wire.Configuration{Profile: profile, Var: literal.Source(all), Script: script}
}

// withVariables adds the lines that hand METADATA_URL and PXEMNGR_URL to the
// agent (reference section 4.4). A script with an interpreter of its own, other
// than Python, gets METADATA_URL by the kernel command line only.
func withVariables(c wire.Configuration, d *Deployment) string {
	text := c.Script
	if program := c.Interpreter(); program != "" && !strings.Contains(program, "python") {
		return text
	}
	for _, v := range []struct{ name, url string }{{"PXEMNGR_URL", d.PXEMngrURL}, {"METADATA_URL", d.MetadataURL}} {
		if v.url == "" {
			continue
		}
		if !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		text += fmt.Sprintf("run('echo \"%s=%s\" >> /vars')\n", v.name, v.url)
	}
	return text
}

func (a *allocating) grant(decision assign.Decision) {
	now := a.snapshot.Time
	r := &a.Record
	got := machine.Allocation{Holding: decision.Holding, Section: a.directory.Name, Var: literal.Repr(decision.Var), Given: now, Asked: 1}
	words := "profile " + decision.Profile
	if old := r.Allocation; old != nil {
		got.Given, got.Asked, got.Installed = old.Given, old.Asked+1, old.Installed
		words += ", as before"
	}
	r.Allocation, r.Host, r.Wipe = &got, machine.HostName(got.Var), nil
	if r.Differs = nil; decision.Differs != nil {
		passed := *decision.Differs
		passed.Anyway = true
		r.Differs = &passed
		words += fmt.Sprintf("; the operator lets pass that it %s", passed)
	}
	r.State, r.Since, r.LastError = machine.Installing, now, ""
	if r.Boot == machine.Reinstall {
		r.Boot = machine.Auto
	}
	a.line("match", "done", "%s", words)
}

// refuse notes in the record why the machine got nothing. One that is
// installed stays so: its disk is as it was.
func (a *allocating) refuse(err error, state machine.State) {
	if a.Record.State != machine.Installed && a.Record.State != state {
		a.Record.State, a.Record.Since = state, a.snapshot.Time
	}
	a.Record.LastError, a.Refused = err.Error(), err
	a.line("match", "failed", "%s", err.Error())
}

func (a *allocating) line(step, status, format string, args ...any) {
	a.Lines = append(a.Lines, api.HistoryLine{Time: a.snapshot.Time, Step: step, Status: status, Message: fmt.Sprintf(format, args...)})
}
