package allocation

import (
	"fmt"

	"edeploy/server/internal/machine"
	"edeploy/server/internal/refusal"
	"edeploy/server/wire"
)

// SetBoot sets what the operator wants a machine to boot.
func SetBoot(s *Snapshot, name string, boot machine.Boot) (Outcome, Changes, error) {
	r, err := Named(s.Machines, name)
	if err != nil {
		return Outcome{}, Changes{}, err
	}
	if err := mayBoot(r, boot); err != nil {
		return Outcome{}, Changes{}, err
	}
	r.Boot = boot
	return word(s, r, "the operator sets it to "+string(boot)), Changes{Records: []machine.Record{r}}, nil
}

// InstallAnyway lets pass what a machine has otherwise than the expected
// hardware, until it is installed. What differs besides holds it again.
func InstallAnyway(s *Snapshot, name string) (Outcome, Changes, error) {
	r, err := Named(s.Machines, name)
	if err != nil {
		return Outcome{}, Changes{}, err
	}
	if r.Differs == nil {
		return Outcome{}, Changes{}, refusal.New(refusal.Conflict, "machine %s is not held because of its hardware: there is nothing to let pass", r.ID)
	}
	passed := *r.Differs
	passed.Anyway = true
	r.Differs, r.LastError = &passed, ""
	if r.State == machine.Failed {
		r.State, r.Since = machine.Unknown, s.Time
	}
	return word(s, r, fmt.Sprintf("the operator lets pass that it %s: it is installed when it asks again", passed)), Changes{Records: []machine.Record{r}}, nil
}

// WipeAnyway lets a machine overwrite the data because of which its installation
// has stopped, until it is installed. Other data stops it again.
func WipeAnyway(s *Snapshot, name string) (Outcome, Changes, error) {
	r, err := Named(s.Machines, name)
	if err != nil {
		return Outcome{}, Changes{}, err
	}
	if r.Foreign == nil {
		return Outcome{}, Changes{}, refusal.New(refusal.Conflict, "machine %s has not stopped because of data on its disks: there is nothing to let pass", r.ID)
	}
	passed := *r.Foreign
	passed.Anyway = true
	r.Foreign, r.LastError = &passed, ""
	if r.State == machine.Failed {
		r.State, r.Since = machine.Unknown, s.Time
	}
	return word(s, r, fmt.Sprintf("the operator lets it overwrite what is there: %s. It is installed when it asks again", passed)), Changes{Records: []machine.Record{r}}, nil
}

// SetSection sets the deployment that a machine belongs to; "": the default
// one. A MAC address that is not known yet becomes known.
func SetSection(s *Snapshot, name, section string) (Outcome, Changes, error) {
	r, c, err := knownOrNew(s, name)
	if err != nil {
		return Outcome{}, Changes{}, err
	}
	r.BootSection = section
	c.Records = []machine.Record{r}
	text := "the operator gives it the deployment " + section
	if section == "" {
		text = "the operator gives it the default deployment, " + s.Site.Default
	}
	return word(s, r, text), c, nil
}

// SetLoader pins a machine to a loader; "": to none. A MAC address that is not
// known yet becomes known.
func SetLoader(s *Snapshot, name, loader string) (Outcome, Changes, error) {
	r, c, err := knownOrNew(s, name)
	if err != nil {
		return Outcome{}, Changes{}, err
	}
	r.Loader = loader
	c.Records = []machine.Record{r}
	if loader == "" {
		return word(s, r, "the operator leaves its loader to the boot services"), c, nil
	}
	return word(s, r, "the operator pins it to the loader "+loader), c, nil
}

// knownOrNew finds a machine, or makes a record of a MAC address.
func knownOrNew(s *Snapshot, name string) (machine.Record, Changes, error) {
	r, err := Named(s.Machines, name)
	mac := wire.NormalMAC(name)
	if mac == "" || err == nil {
		return r, Changes{}, err
	}
	c, err := room(s)
	if err != nil {
		return r, c, err
	}
	noticed, err := s.Machines.Notice(wire.Identity{MACs: []string{mac}})
	if err != nil {
		return r, c, identityRefused("make "+mac+" known", err)
	}
	noticed.Record.Since = s.Time
	return noticed.Record, c, nil
}

// Add takes the operator's word about a MAC address: it belongs to a known
// machine, or, when owner is "", is a machine of its own, to be installed.
func Add(s *Snapshot, mac, owner string) (Outcome, Changes, error) {
	if owner != "" {
		return join(s, mac, owner)
	}
	var c Changes
	own := s.Machines.Own(mac)
	if own.New {
		var err error
		if c, err = room(s); err != nil {
			return Outcome{}, c, err
		}
		own.Record.Since = s.Time
	}
	c.Records = append([]machine.Record{own.Record}, own.Others...)
	return word(s, own.Record, "the operator says that "+mac+" is a machine of its own, to be installed"), c, nil
}

func join(s *Snapshot, mac, owner string) (Outcome, Changes, error) {
	r, err := Named(s.Machines, owner)
	if err != nil {
		return Outcome{}, Changes{}, err
	}
	now, err := s.Machines.Join(r, mac)
	if err != nil {
		return Outcome{}, Changes{}, identityRefused("add "+mac, err)
	}
	return word(s, now.Record, "the operator says that it has the adapter "+mac), Changes{Records: append([]machine.Record{now.Record}, now.Others...)}, nil
}

// ForgetStrangers forgets all machines that nobody needs: the ids in Removed.
func ForgetStrangers(s *Snapshot) Changes { return gone(s.Machines.Strangers()) }

// ParseMAC reads an address that an operator has typed.
func ParseMAC(text string) (string, error) {
	mac := wire.NormalMAC(text)
	if mac == "" {
		return "", refusal.New(refusal.Input, "%q is no MAC address", refusal.Clip(text, 100))
	}
	return mac, nil
}
