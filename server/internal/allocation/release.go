package allocation

import (
	"fmt"
	"time"

	"edeploy/server/api"
	"edeploy/server/internal/assign"
	"edeploy/server/internal/machine"
	"edeploy/server/internal/refusal"
)

// Fail takes a failure report (reference section 2.6): the machine gives back
// what it holds, once. It is never treated as a new request. A machine that
// holds nothing has reported before: nothing happens. One that holds another
// profile than it says is refused. One that was installed with the profile
// before keeps what it holds: the reinstallation is to be repeated.
func Fail(s *Snapshot, q Request) (Outcome, Changes, error) {
	r, known, err := s.Machines.Find(q.Identity)
	if err != nil {
		return Outcome{}, Changes{}, identityRefused("failure report", err)
	}
	if !known || r.Allocation == nil {
		return Outcome{Record: r}, Changes{}, nil
	}
	if r.Allocation.Profile != q.Failure {
		return Outcome{}, Changes{}, refusal.New(refusal.Conflict, "failure report: machine %s holds profile %s, not %s", r.ID, r.Allocation.Profile, q.Failure)
	}
	if r.State == machine.Installed { // it says so about an installation that is long over
		return Outcome{}, Changes{}, refusal.New(refusal.Conflict, "failure report: machine %s is installed since %s, and stays so", r.ID, r.Since.UTC().Format(time.RFC3339))
	}
	var c Changes
	var out Outcome
	text := "the reinstallation failed: profile " + r.Allocation.Profile + " and what belongs to it are kept"
	if r.Allocation.Installed.IsZero() {
		if c.Directories, out.Notes, err = release(s, r); err != nil {
			return out, Changes{}, err
		}
		text = "the installation failed: profile " + r.Allocation.Profile + " was given back"
		r.Allocation = nil
	}
	if r.State != machine.Failed {
		r.State, r.Since = machine.Failed, s.Time
	}
	if r.LastError == "" {
		r.LastError = "the installation failed; the machine's log says why"
	}
	c.Records = []machine.Record{r}
	out.Record, out.Lines = r, []api.HistoryLine{{Time: s.Time, Step: "match", Status: "note", Message: text}}
	return out, c, nil
}

// release answers the configuration directory after a machine has given back
// what it holds; none when edeploy.conf has its deployment no more.
func release(s *Snapshot, r machine.Record) ([]*Directory, []Note, error) {
	a := r.Allocation
	of := s.Site.Deployments[a.Section]
	if of == nil {
		return nil, []Note{deploymentGone(r)}, nil
	}
	d := s.Directory(of)
	files, err := assign.Release(d, a.Holding)
	if err != nil {
		return nil, nil, refusal.New(refusal.Broken, "machine %s cannot give profile %s back: %v", r.ID, a.Profile, err)
	}
	d.Apply(files)
	return []*Directory{d}, nil, nil
}

func deploymentGone(r machine.Record) Note {
	a := r.Allocation
	return Note{Loss, a.Section, fmt.Sprintf("Machine %s held profile %s of this deployment, which edeploy.conf has no more: its count was not given back.", r.ID, a.Profile)}
}
