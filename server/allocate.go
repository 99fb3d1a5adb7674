package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"edeploy/server/internal/assign"
	"edeploy/server/internal/history"
	"edeploy/server/internal/literal"
	"edeploy/server/internal/machine"
	"edeploy/server/internal/script"
	"edeploy/server/internal/upload"
	"edeploy/server/wire"
)

// request is one upload of a hardware description.
type request struct {
	deployment   *deployment
	form         upload.Form
	facts        *assign.Facts
	identity     wire.Identity
	name         string // sysname
	came         time.Time
	hardwareFile string // where the description was saved, "" when it was not
}

// outcome is what became of a request.
type outcome struct {
	record        machine.Record
	configuration *wire.Configuration // nil: refused, or a failure report
	refused       error               // a *refusal, or nil
	decision      *assign.Decision    // the profile that fits; nil: none, or a failure report
	tried         assign.Tries        // profiles that do not fit
	lines         []history.Line
}

// allocate gives a machine its profile: the one it holds, or a new one. The
// record, the state and the CMDB change together.
func (s *Server) allocate(ctx context.Context, q request) (outcome, error) {
	var out outcome
	err := s.together(ctx, func(d *draft) (err error) {
		out, err = s.decide(d, q)
		return err
	}, s.sectionsToLock(q)...)
	return out, err
}

// foresee matches before the turn comes, when nobody has to wait for it.
func (s *Server) foresee(q request) {
	held := ""
	if r, known, err := s.machines.find(q.identity); err == nil && known && r.Allocation != nil {
		held = r.Allocation.Profile
	}
	q.facts.Foresee(newView(q.deployment, nil), held)
}

// sectionsToLock are the deployment of the request and the one that the
// machine has its allocation from.
func (s *Server) sectionsToLock(q request) []string {
	sections := []string{q.deployment.name}
	for _, mac := range q.identity.MACs {
		if r, ok := s.machines.byMAC(mac); ok && r.Allocation != nil {
			sections = append(sections, r.Allocation.Section)
		}
	}
	return sections
}

// decide makes the whole decision about one request. An error is a refusal
// that leaves no trace in the machine's record, because it is not known which
// record that would be.
func (s *Server) decide(d *draft, q request) (outcome, error) {
	admitted, err := s.admit(d, q)
	if err != nil {
		return outcome{}, err
	}
	r := admitted.Record
	r.Section, r.Name = q.deployment.name, q.name
	if q.hardwareFile != "" {
		r.HardwareFile = q.hardwareFile
	}
	b := &bargain{server: s, draft: d, request: q, record: r, view: d.view(q.deployment)}
	b.views = []*view{b.view}
	out, err := b.strike()
	if err != nil {
		return outcome{}, err
	}
	d.accept(append([]machine.Record{out.record}, admitted.Others...), b.views...)
	return out, nil
}

// admit finds out which machine it is.
func (s *Server) admit(d *draft, q request) (machine.Admission, error) {
	admitted, err := s.machines.drafted.admit(q.identity)
	if errors.Is(err, machine.ErrAmbiguous) || errors.Is(err, machine.ErrKept) {
		s.refused(q.deployment.name, "A machine was refused: %v.", err)
	}
	switch {
	case err != nil:
		return admitted, refuseIdentity("hardware description", err)
	case admitted.New:
		return admitted, s.makeRoom(d)
	}
	return admitted, nil
}

// refuseIdentity makes a refusal of an error of the book.
func refuseIdentity(what string, err error) error {
	if errors.Is(err, machine.ErrNameless) || errors.Is(err, machine.ErrTooMany) {
		return refuse(errUnusable, "%s: %v", what, err)
	}
	return refuse(errConflict, "%s: %v", what, err)
}

// bargain is one decision on its way.
type bargain struct {
	server  *Server
	draft   *draft
	request request
	record  machine.Record
	view    *view   // of the request's deployment
	views   []*view // all that changes
	tried   assign.Tries
	fitting *assign.Decision
	lines   []history.Line
}

// strike answers what the machine gets. Refusals that say something about the
// machine are in the outcome, with its record.
func (b *bargain) strike() (outcome, error) {
	if err := heldBack(b.record); err != nil {
		return b.refuse(err, b.record.State), nil
	}
	before, viewsBefore := b.record, b.views
	decision, err := b.choose()
	b.note(&decision, err)
	if err != nil {
		err = b.explain(err)
		if errors.Is(err, errBroken) { // nothing is given up because of a typing error
			b.record, b.views = before, viewsBefore
			b.view.forget()
		}
		return b.refuse(err, machine.Failed), nil
	}
	configuration, err := b.configuration(decision)
	if err != nil {
		b.record, b.views = before, viewsBefore
		b.view.forget()
		return b.refuse(err, machine.Failed), nil
	}
	b.grant(decision)
	return outcome{record: b.record, configuration: &configuration, decision: b.fitting, tried: b.tried, lines: b.lines}, nil
}

// note keeps what was tried, for the explanation.
func (b *bargain) note(decision *assign.Decision, err error) {
	var why *assign.Error
	switch {
	case err == nil:
		b.tried, b.fitting = decision.Tried, decision
	case errors.As(err, &why):
		b.tried = why.Tried
	}
}

// heldBack: the operator wants this machine to do something else, or it is
// installed and nobody has said that it is to be installed again.
func heldBack(r machine.Record) error {
	switch {
	case r.State == machine.Installed && r.Boot == machine.Auto:
		return refuse(errConflict, "machine %s is installed, and is installed again only when the operator says so: edeployctl reinstall %s", r.ID, r.ID)
	case r.Kept() && r.Boot != machine.Reinstall:
		return refuse(errConflict, "the operator has set machine %s to %s, so it gets no configuration: edeployctl release %s lets it go on, edeployctl reinstall %s installs it", r.ID, r.Boot, r.ID, r.ID)
	}
	return nil
}

// choose finds the profile: the one the machine holds, else the first that
// fits.
func (b *bargain) choose() (assign.Decision, error) {
	if b.record.Allocation != nil {
		decision, err := b.again()
		if !errors.Is(err, assign.ErrNoMatch) && !errors.Is(err, assign.ErrGone) {
			b.complain(decision.Problems)
			return decision, err
		}
		if b.record.State == machine.Installed {
			return decision, refuse(errConflict, "machine %s is installed with profile %s, which it cannot get again: %v. It keeps what it holds until it is forgotten: edeployctl forget %s",
				b.record.ID, b.record.Allocation.Profile, err, b.record.ID)
		}
		if err := b.giveBack(err); err != nil {
			return decision, err
		}
	}
	decision, err := b.request.facts.Find(b.view, b.others())
	if err == nil {
		b.view.apply(decision.Files)
	}
	b.complain(decision.Problems)
	return decision, err
}

func (b *bargain) complain(problems []string) {
	for _, text := range problems {
		b.server.config.Log.Warn("problem", "deployment", b.view.name, "text", text)
	}
}

func (b *bargain) again() (assign.Decision, error) {
	a := b.record.Allocation
	if a.Section != b.view.name {
		return assign.Decision{}, fmt.Errorf("%w: it is from deployment %s, the machine asks deployment %s", assign.ErrGone, a.Section, b.view.name)
	}
	// Without this a typing error in the specs would look like a machine that
	// does not fit any more.
	if specs, err := b.view.Specs(a.Profile); specs == nil {
		return assign.Decision{}, refuse(errBroken, "machine %s holds profile %s, whose specs cannot be had: %v", b.record.ID, a.Profile, err)
	}
	decision, err := b.request.facts.Again(b.view, a.Holding, b.others())
	if err == nil {
		b.view.apply(decision.Files)
	}
	return decision, err
}

// giveBack releases what the machine holds, because of a reason.
func (b *bargain) giveBack(reason error) error {
	a := b.record.Allocation
	v := b.view
	if a.Section != v.name {
		d := b.server.deployments[a.Section]
		if d == nil {
			b.server.problem(a.Section, "Machine %s held profile %s of this deployment, which edeploy.conf has no more: its count was not given back.", b.record.ID, a.Profile)
			b.record.Allocation = nil
			return nil
		}
		if d.ConfigDir != v.ConfigDir {
			v = b.draft.view(d)
			b.views = append(b.views, v)
		}
	}
	files, err := assign.Release(v, a.Holding)
	if err != nil {
		return err
	}
	v.apply(files)
	b.line("match", "note", "gave profile %s back: %v", a.Profile, reason)
	b.record.Allocation = nil
	return nil
}

// others answers whether another machine holds a CMDB entry of this
// configuration directory.
func (b *bargain) others() assign.Others {
	return b.server.heldByOthers(b.record.ID, b.view.ConfigDir)
}

func (s *Server) heldByOthers(id, dir string) assign.Others {
	return s.machines.drafted.heldByOthers(id, func(section string) bool {
		d := s.deployments[section]
		return d != nil && d.ConfigDir == dir
	})
}

// configuration makes the answer.
func (b *bargain) configuration(decision assign.Decision) (wire.Configuration, error) {
	text, err := b.view.dir.Configure(decision.Profile)
	if err != nil {
		return wire.Configuration{}, refuse(errBroken, "profile %s fits machine %s, but its script cannot be had: %v", decision.Profile, b.record.ID, err)
	}
	c := script.Configuration(decision.Profile, decision.Var, text)
	c.Script = withVariables(c, b.view.Deployment)
	return c, nil
}

// withVariables adds the lines that hand METADATA_URL and PXEMNGR_URL to the
// agent (reference section 4.4). A script with an interpreter of its own, other
// than Python, gets METADATA_URL by the kernel command line only.
func withVariables(c wire.Configuration, d Deployment) string {
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

// grant writes the decision into the record.
func (b *bargain) grant(decision assign.Decision) {
	now := b.server.config.Now()
	a := machine.Allocation{Holding: decision.Holding, Section: b.view.name, Var: literal.Repr(decision.Var), Given: now, Asked: 1}
	words := "profile " + decision.Profile
	if old := b.record.Allocation; old != nil {
		a.Given, a.Asked, a.Installed = old.Given, old.Asked+1, old.Installed
		words += ", as before"
	}
	b.record.Allocation, b.record.Host = &a, hostname(a.Var)
	b.record.State, b.record.Since, b.record.LastError = machine.Installing, now, ""
	if b.record.Boot == machine.Reinstall {
		b.record.Boot = machine.Auto
	}
	b.line("match", "done", "%s", words)
}

// refuse notes in the record why the machine got nothing. One that is
// installed stays so: its disk is as it was.
func (b *bargain) refuse(err error, state machine.State) outcome {
	if b.record.State != machine.Installed && b.record.State != state {
		b.record.State, b.record.Since = state, b.server.config.Now()
	}
	b.record.LastError = err.Error()
	b.line("match", "failed", "%s", err.Error())
	return outcome{record: b.record, refused: err, decision: b.fitting, tried: b.tried, lines: b.lines}
}

func (b *bargain) line(step, status, format string, args ...any) {
	b.lines = append(b.lines, history.Line{Time: b.server.config.Now(), Step: step, Status: status, Message: fmt.Sprintf(format, args...)})
}

// explain makes a refusal of an error of assign.
func (b *bargain) explain(err error) error {
	var known *refusal
	if errors.As(err, &known) {
		return err
	}
	kind := errBroken
	switch {
	case errors.Is(err, assign.ErrNoMatch):
		kind = errNoMatch
	case errors.Is(err, assign.ErrStateExhausted), errors.Is(err, assign.ErrCMDBExhausted), errors.Is(err, assign.ErrCMDBNoEntry):
		kind = errConflict
	}
	var why *assign.Error
	switch {
	case !errors.As(err, &why):
	case errors.Is(err, assign.ErrNoMatch), errors.Is(err, assign.ErrStateExhausted):
		return refuse(kind, "%s%s%s", why.Message, cures(why.Full), attempts(why.Tried))
	case errors.Is(err, assign.ErrCMDBExhausted):
		return refuse(kind, "profile %s: %s All entries of %s.cmdb are used: edeployctl cmdb list %s", why.Profile, why.Message, why.Profile, why.Profile)
	case why.Profile != "" && !strings.Contains(why.Message, why.Profile):
		return refuse(kind, "profile %s: %s", why.Profile, why.Message)
	}
	return refuse(kind, "%v", err)
}

// cures tells which profiles would fit if their count were not 0.
func cures(full []string) string {
	var list strings.Builder
	for _, name := range full {
		fmt.Fprintf(&list, "; %s fits, but its count is 0: edeployctl state set %s N", name, name)
	}
	return list.String()
}

// Bounds of what a refusal lists on a machine's console.
const (
	maxAttempts = 50 // profiles
	maxClosest  = 5  // of these, with the fact that came closest
)

// attempts lists why the profiles do not fit, one a line, the first ones with
// the fact that came closest.
func attempts(tried assign.Tries) string {
	var list strings.Builder
	for i, a := range tried.Attempts(maxAttempts) {
		fmt.Fprintf(&list, "\n  %s: %s", a.Profile, a.Reason)
		if closest := a.Closest(); closest != "" && i < maxClosest {
			fmt.Fprintf(&list, "\n    closest: %s", closest)
		}
	}
	if more := len(tried) - maxAttempts; more > 0 {
		fmt.Fprintf(&list, "\n  ... and %d more profiles", more)
	}
	return list.String()
}
