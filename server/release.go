package server

import (
	"context"
	"time"

	"edeploy/server/internal/assign"
	"edeploy/server/internal/history"
	"edeploy/server/internal/machine"
)

// fail takes a failure report (reference section 2.6): the machine gives back
// what it holds, once. It is never treated as a new request. A machine that
// holds nothing has reported before: nothing happens. One that holds another
// profile than it says is refused. One that was installed with the profile
// before keeps what it holds: the reinstallation is to be repeated.
func (s *Server) fail(ctx context.Context, q request) (outcome, error) {
	var out outcome
	err := s.together(ctx, func(d *draft) (err error) {
		out, err = s.decideFailure(d, q)
		return err
	}, s.sectionsToLock(q)...)
	return out, err
}

func (s *Server) decideFailure(d *draft, q request) (outcome, error) {
	r, known, err := s.machines.drafted.find(q.identity)
	if err != nil {
		return outcome{}, refuseIdentity("failure report", err)
	}
	if !known || r.Allocation == nil {
		return outcome{record: r}, nil
	}
	if r.Allocation.Profile != q.form.Failure {
		return outcome{}, refuse(errConflict, "failure report: machine %s holds profile %s, not %s", r.ID, r.Allocation.Profile, q.form.Failure)
	}
	if r.State == machine.Installed { // it says so about an installation that is long over
		return outcome{}, refuse(errConflict, "failure report: machine %s is installed since %s, and stays so", r.ID, r.Since.UTC().Format(time.RFC3339))
	}
	var views []*view
	now := s.config.Now()
	words := "the reinstallation failed: profile " + r.Allocation.Profile + " and what belongs to it are kept"
	if r.Allocation.Installed.IsZero() {
		if views, err = s.release(d, r); err != nil {
			return outcome{}, err
		}
		words = "the installation failed: profile " + r.Allocation.Profile + " was given back"
		r.Allocation = nil
	}
	if r.State != machine.Failed {
		r.State, r.Since = machine.Failed, now
	}
	if r.LastError == "" {
		r.LastError = "the installation failed; the machine's log says why"
	}
	d.accept([]machine.Record{r}, views...)
	return outcome{record: r, lines: []history.Line{{Time: now, Step: "match", Status: "note", Message: words}}}, nil
}

// release answers the configuration directory after a machine has given back
// what it holds; none when edeploy.conf has its deployment no more.
func (s *Server) release(d *draft, r machine.Record) ([]*view, error) {
	a := r.Allocation
	of := s.deployments[a.Section]
	if of == nil {
		s.problem(a.Section, "Machine %s held profile %s of this deployment, which edeploy.conf has no more: its count was not given back.", r.ID, a.Profile)
		return nil, nil
	}
	v := d.view(of)
	files, err := assign.Release(v, a.Holding)
	if err != nil {
		return nil, refuse(errBroken, "machine %s cannot give profile %s back: %v", r.ID, a.Profile, err)
	}
	v.apply(files)
	return []*view{v}, nil
}

func (s *Server) allSections() []string {
	var all []string
	for name := range s.deployments {
		all = append(all, name)
	}
	return all
}

// setBoot sets what the operator wants a machine to boot.
func (s *Server) setBoot(ctx context.Context, name string, boot machine.Boot) (machine.Record, error) {
	var r machine.Record
	err := s.inTurn(ctx, func() (change, error) {
		known, err := s.machines.named(name)
		if err != nil {
			return change{}, err
		}
		r = known
		r.Boot = boot
		return change{put: []machine.Record{r}}, nil
	})
	if err != nil {
		return r, err
	}
	s.record(r, history.Line{Time: s.config.Now(), Step: "boot", Status: "note", Message: "the operator sets it to " + string(boot)})
	return r, nil
}
