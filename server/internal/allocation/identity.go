package allocation

import (
	"errors"
	"strings"

	"edeploy/server/internal/machine"
	"edeploy/server/internal/refusal"
	"edeploy/server/internal/upload"
	"edeploy/server/wire"
)

// maxNamed bounds the ids that a refusal lists.
const maxNamed = 10

// Named finds the machine that an operator means: by its id, by one of its MAC
// addresses, or by its name as lists show it.
func Named(index *machine.Index, word string) (machine.Record, error) {
	found := index.Named(word)
	switch len(found) {
	case 0:
		return machine.Record{}, refusal.New(refusal.UnknownMachine, "no machine is known as %s", refusal.Clip(word, 100))
	case 1:
		return found[0], nil
	}
	var ids []string
	for _, r := range found[:min(len(found), maxNamed)] {
		ids = append(ids, r.ID)
	}
	return machine.Record{}, refusal.New(refusal.Conflict, "%d machines are called %s: say which, %s", len(found), refusal.Clip(word, 100), strings.Join(ids, " "))
}

// CheckIdentity refuses an identity that no machine has; what is the message
// that shows it.
func CheckIdentity(what string, is wire.Identity) error {
	if err := machine.Check(is); err != nil {
		return identityRefused(what, err)
	}
	return nil
}

// identityRefused makes a refusal of an error of the index.
func identityRefused(what string, err error) error {
	kind := refusal.Conflict
	if errors.Is(err, machine.ErrNameless) || errors.Is(err, machine.ErrTooMany) {
		kind = refusal.Unusable
	}
	return refusal.New(kind, "%s: %w", what, err)
}

// room makes room for one more machine: of those that nobody needs, some of
// the oldest go.
func room(s *Snapshot) (Changes, error) {
	most := s.Site.MaxMachines
	if s.Machines.Len() < most {
		return Changes{}, nil
	}
	ids := s.Machines.Strangers()
	if len(ids) == 0 {
		return Changes{}, refusal.New(refusal.Busy, "the server knows %d machines and takes no more: forget some of them", s.Machines.Len())
	}
	return gone(ids[:min(len(ids), max(1, most/64))]), nil
}

// gone removes machines together with their histories.
func gone(ids []string) Changes { return Changes{Removed: ids, Lost: ids} }

// Section is the deployment that a machine belongs to: the one that the
// operator has set for it, else the default.
func Section(site *Site, r machine.Record) string {
	if r.BootSection != "" {
		return r.BootSection
	}
	return site.Default
}

// AdmitSection finds the deployment of an upload. Where there are several, a
// machine has no choice: it gets the one that it belongs to, and may name that
// or the default one, which every boot names that does not know better.
func AdmitSection(s *Snapshot, named string, is wire.Identity) (*Deployment, error) {
	if len(s.Site.Deployments) == 1 {
		return s.Site.Deployments[named], nil
	}
	r, _, err := s.Machines.Find(is)
	if err != nil {
		return nil, identityRefused("hardware description", err)
	}
	if awaited, ok := s.Machines.AwaitedBySerial(is.Serial); ok && r.BootSection == "" {
		r.BootSection = awaited.BootSection
	}
	section := Section(s.Site, r)
	if named != section && named != s.Site.Default && named != upload.DefaultSection {
		who := "a machine that is not known yet"
		if r.ID != "" {
			who = "machine " + r.ID
		}
		return nil, refusal.New(refusal.Forbidden, "%s belongs to deployment %s and may not choose %s: the operator can set it", who, section, named)
	}
	d := s.Site.Deployments[section]
	if d == nil {
		return nil, refusal.New(refusal.Input, "edeploy.conf has no section %q", section)
	}
	return d, nil
}
