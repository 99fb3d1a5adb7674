package machine

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"edeploy/server/wire"
)

// ErrKept: it is not certain which machine asks, and one that it may be has a
// disk that must stay as it is.
var ErrKept = errors.New("nothing is installed")

// Kept tells whether the machine's disk is to stay as it is: it is installed,
// or the operator has set it to something else than an installation.
func (r Record) Kept() bool {
	return r.State == Installed || r.Boot == Hold || r.Boot == Rescue || r.Boot == Local || r.Boot == Wipe
}

// guard refuses a machine that would be taken for a new one, or for one that
// is being installed, although it shows an address, the UUID or the serial of
// another one that is kept: a replaced mainboard or adapter looks like that, and so does a
// machine that has another's adapter or a copied UUID. Only the operator knows.
func (x *Index) guard(r Record, is wire.Identity) error {
	if r.ID != "" && (r.Kept() || r.Boot == Reinstall) {
		return nil
	}
	for _, other := range x.candidates(is.MACs) {
		if other.ID != r.ID && other.Kept() {
			return doubt(other, is, "an address")
		}
	}
	if other, ok := x.ByUUID(is.UUID); ok && other.ID != r.ID && other.Kept() {
		return doubt(other, is, "the UUID")
	}
	// All nodes of a chassis may have its serial: it counts when no UUID tells them apart.
	if other, ok := x.only(serialKey(is.Serial)); ok && other.ID != r.ID && other.Kept() && !other.Awaited() && x.weigh(other, is) == agrees {
		return doubt(other, is, "the serial")
	}
	return nil
}

// doubt is the error of guard, with what the operator can say.
func doubt(other Record, is wire.Identity, shared string) error {
	name := "MAC"
	if own := slices.DeleteFunc(slices.Clone(is.MACs), func(mac string) bool { return slices.Contains(other.MACs, mac) }); len(own) > 0 {
		name = own[0]
	} else if len(is.MACs) > 0 {
		name = is.MACs[0]
	}
	return fmt.Errorf("%w: the machine shows %s of %s, which %s. If it is %s with other hardware: edeployctl machines add %s --to %s; if it is another machine: edeployctl machines add %s",
		ErrKept, shared, other.ID, because(other), other.ID, name, other.ID, name)
}

func because(r Record) string {
	if r.State == Installed {
		return "is installed"
	}
	return "the operator has set to " + string(r.Boot)
}

// Booting answers the machine that asks what to boot, by one MAC address and
// perhaps a UUID. It is found as an upload would find it; when two machines
// may be meant, it is the one that is kept. The error is what an operator
// should know about it then.
func (x *Index) Booting(mac, uuid string) (Record, bool, error) {
	if mac = wire.NormalMAC(mac); mac == "" {
		r, ok := x.ByUUID(uuid)
		r, err := x.unlessErased(r, wire.Identity{UUID: uuid})
		return r, ok, err
	}
	r, known := x.ByMAC(mac)
	is := wire.Identity{MACs: []string{mac}, UUID: uuid}
	if known && (r.Kept() || r.Boot != Auto) {
		r, err := x.unlessErased(r, is)
		return r, true, err
	}
	if other, ok := x.ByUUID(uuid); ok && other.ID != r.ID && other.Kept() {
		if other.BootAction() == wire.BootLocal {
			return other, true, doubt(other, is, "the UUID")
		}
		other, err := x.unlessErased(other, is)
		return other, true, err
	}
	return r, known, nil
}

// unlessErased lets a machine wait that is not surely the one whose disks are to
// be erased.
func (x *Index) unlessErased(r Record, is wire.Identity) (Record, error) {
	if r.Boot != Wipe {
		return r, nil
	}
	err := x.Certain(r, is)
	if err != nil {
		r.Boot = Hold
	}
	return r, err
}

// ErrUncertain: the machine may be the one whose disks are to be erased, or
// another one.
var ErrUncertain = errors.New("nothing is erased")

// Certain refuses a machine that shows anything which is not of the record: what
// is good enough to install it is not to erase its disks.
func (x *Index) Certain(r Record, is wire.Identity) error {
	is.MACs = genuineMACs(is.MACs)
	if common(r.MACs, is.MACs) == 0 && len(r.MACs)+len(is.MACs) > 0 {
		return fmt.Errorf("%w: the machine has none of the addresses of %s", ErrUncertain, r.ID)
	}
	for _, other := range x.candidates(is.MACs) {
		if other.ID != r.ID {
			return fmt.Errorf("%w: the machine shows an address of %s, and one of %s: edeployctl forget one of them", ErrUncertain, r.ID, other.ID)
		}
	}
	for _, value := range []struct {
		name, is, was string
		genuine       func(string) string
	}{{"UUID", is.UUID, r.UUID, genuineUUID}, {"serial", is.Serial, r.Serial, genuineSerial}} {
		if a, b := value.genuine(value.is), value.genuine(value.was); a != b && a != "" && b != "" {
			return fmt.Errorf("%w: the machine shows an address of %s, and another %s (%.60s instead of %s): the adapter may be in another machine", ErrUncertain, r.ID, value.name, value.is, value.was)
		}
	}
	return nil
}

// Own makes a machine of its own of a MAC address, to be installed: the
// operator has said that it is no other. Whoever had the address loses it.
func (x *Index) Own(mac string) Admission {
	if r, ok := x.ByMAC(mac); ok && !r.Kept() && slices.Contains(r.MACs, mac) {
		r.Boot = Reinstall
		return Admission{Record: r}
	}
	is := wire.Identity{MACs: []string{mac}}
	r := Record{ID: x.newID(is), Identity: is, State: Unknown, Boot: Reinstall}
	return Admission{Record: r, New: true, Others: x.losers(r)}
}

// Join gives a machine one more MAC address: the operator has said that the
// adapter is in it. Whoever had the address loses it.
func (x *Index) Join(r Record, mac string) (Admission, error) {
	if !slices.Contains(r.MACs, mac) {
		if len(r.MACs) >= MaxMACs {
			return Admission{}, fmt.Errorf("%w: machine %s has %d already", ErrTooMany, r.ID, len(r.MACs))
		}
		r.MACs = append(slices.Clip(r.MACs), mac)
		r.FormerMACs = slices.DeleteFunc(slices.Clone(r.FormerMACs), func(old string) bool { return old == mac })
	}
	return Admission{Record: r, Others: x.losers(r)}, nil
}

// MaxMACs bounds the addresses of one machine. A host with 128 virtual
// functions on two adapters has about that many.
const MaxMACs = 256

// ErrTooMany: a machine names more addresses than a machine has.
var ErrTooMany = fmt.Errorf("at most %d MAC addresses of a machine are taken", MaxMACs)

// Check refuses an identity that no machine has.
func Check(is wire.Identity) error {
	if len(is.MACs) > MaxMACs {
		if n := len(genuineMACs(is.MACs)); n > MaxMACs {
			return fmt.Errorf("%w: it names %d", ErrTooMany, n)
		}
	}
	return nil
}

// Named finds the machines that an operator's word means: an id, a MAC address
// or a name as lists show it. A name means who holds it rather than who held
// it before its installation failed. More than one: the word is ambiguous.
func (x *Index) Named(word string) []Record {
	if r, ok := x.Get(strings.ToLower(word)); ok {
		return []Record{r}
	}
	if r, ok := x.ByMAC(word); ok {
		return []Record{r}
	}
	var all []Record
	for _, r := range x.All() {
		if strings.EqualFold(r.DisplayName(), word) || strings.EqualFold(r.Name, word) || strings.EqualFold(r.givenName(), word) {
			all = append(all, r)
		}
	}
	holds := func(r Record) bool { return r.Allocation != nil }
	if slices.ContainsFunc(all, holds) {
		all = slices.DeleteFunc(all, func(r Record) bool { return !holds(r) })
	}
	return all
}
