package allocation

import (
	"reflect"
	"slices"
	"strings"
	"time"

	"edeploy/server/api"
	"edeploy/server/internal/awaited"
	"edeploy/server/internal/machine"
	"edeploy/server/internal/refusal"
	"edeploy/server/wire"
)

// arrive notes that a machine has come. One that is expected by its serial
// alone becomes the one that shows it: replaced is the record that goes.
func arrive(s *Snapshot, r machine.Record) (_ machine.Record, replaced []string) {
	if by, ok := s.Machines.AwaitedBySerial(r.Serial); ok && by.ID != r.ID && r.Expected == nil {
		r.Expected, replaced = by.Expected, []string{by.ID}
		if r.BootSection == "" {
			r.BootSection = by.BootSection
		}
		if r.Boot == machine.Auto {
			r.Boot = by.Boot
		}
	}
	r.Arrive(s.Time)
	return r, replaced
}

// Import is a list of machines that are to come, or a part of it.
type Import struct{ Machines []awaited.Machine }

// Check refuses a whole list, with the line that cannot be taken.
func (q Import) Check(s *Snapshot) error {
	listed := map[string]int{} // id -> line
	added := 0
	for _, m := range q.Machines {
		if m.Section != "" && s.Site.Deployments[m.Section] == nil {
			return refusal.New(refusal.Unusable, "line %d: edeploy.conf has no section %q", m.Line, m.Section)
		}
		r, err := expectedAs(s, m)
		if err != nil {
			return err
		}
		if r.ID == "" {
			added++
			continue
		}
		if line, twice := listed[r.ID]; twice {
			return refusal.New(refusal.Unusable, "line %d: machine %s is in line %d already", m.Line, r.ID, line)
		}
		listed[r.ID] = m.Line
	}
	if most := s.Site.MaxMachines; s.Machines.Len()+added > most {
		return refusal.New(refusal.Conflict, "the list has %d new machines, the server knows %d and takes %d: forget some of them", added, s.Machines.Len(), most)
	}
	return q.names(s, listed)
}

// names refuses names of other machines.
func (q Import) names(s *Snapshot, listed map[string]int) error {
	of := map[string]string{}
	for _, r := range s.Machines.All() {
		if _, changes := listed[r.ID]; !changes {
			of[strings.ToLower(r.DisplayName())] = r.ID
			if r.Expected != nil {
				of[strings.ToLower(r.Expected.Name)] = r.ID
			}
		}
	}
	for _, m := range q.Machines {
		if id, taken := of[strings.ToLower(m.Name)]; taken && m.Name != "" {
			return refusal.New(refusal.Unusable, "line %d: machine %s is called %s already", m.Line, id, m.Name)
		}
	}
	return nil
}

// expectedAs is the known machine that a line is about; ID "": none is.
func expectedAs(s *Snapshot, m awaited.Machine) (machine.Record, error) {
	var found machine.Record
	if r, ok := s.Machines.ByMAC(m.MAC); ok && slices.Contains(r.MACs, m.MAC) {
		found = r
	}
	if m.Serial == "" {
		return found, nil
	}
	same := s.Machines.BySerial(m.Serial)
	switch {
	case len(same) > 1 && found.ID == "":
		return found, refusal.New(refusal.Unusable, "line %d: %d machines have the serial %s: say which by its MAC address", m.Line, len(same), m.Serial)
	case len(same) == 1 && found.ID == "":
		return same[0], nil
	case len(same) == 1 && found.ID != same[0].ID:
		return found, refusal.New(refusal.Unusable, "line %d: %s is an address of machine %s, and %s the serial of machine %s", m.Line, m.MAC, found.ID, m.Serial, same[0].ID)
	}
	return found, nil
}

// Decide takes in the machines of a list that was checked. A known one gets
// name and place.
func (q Import) Decide(s *Snapshot) (done api.Imported, c Changes, err error) {
	index := s.Machines.Clone() // ids of the new ones differ from each other
	for _, m := range q.Machines {
		is, err := expectedAs(s, m)
		if err != nil {
			return api.Imported{}, Changes{}, err
		}
		next := expect(is, m, index, s.Time)
		switch {
		case is.ID == "":
			done.Added++
		case reflect.DeepEqual(is, next):
			done.Unchanged++
			continue
		default:
			done.Changed++
		}
		index.Put(next)
		c.Records = append(c.Records, next)
	}
	return done, c, nil
}

// expect is the record of a machine with what a line says of it. One that has
// been heard of has come.
func expect(r machine.Record, m awaited.Machine, index *machine.Index, now time.Time) machine.Record {
	says := api.Expected{Name: m.Name, Rack: m.Rack, Unit: m.Unit}
	switch {
	case r.ID == "":
		r = index.Expect(m.Identity(), says, now)
	case r.Expected != nil:
		says.Came = r.Expected.Came
	case r.Section != "" || r.State != machine.Unknown:
		says.Came = now
	}
	r.Expected = &says
	if r.Awaited() {
		r.Identity = withIdentity(r.Identity, m)
	}
	if m.Section != "" {
		r.BootSection = m.Section
	}
	return r
}

// withIdentity adds to a machine that has not come what else is known of it.
func withIdentity(is wire.Identity, m awaited.Machine) wire.Identity {
	if m.MAC != "" && len(is.MACs) == 0 {
		is.MACs = []string{m.MAC}
	}
	if is.Serial == "" {
		is.Serial = m.Serial
	}
	return is
}
