package machine

import (
	"cmp"
	"slices"

	"edeploy/server/wire"
)

// evidence is what the SMBIOS values of two descriptions say together.
type evidence int

const (
	silent      evidence = iota // nothing genuine on both sides, or one for and one against
	agrees                      // UUID or serial is the same, none is different
	contradicts                 // one is different, the other says nothing
	denies                      // both are different
)

// relation is the answer to "is this the machine of that record?".
type relation struct {
	same          bool
	smbios        evidence
	current, past int // MAC addresses in common with the record's present and former ones
}

// relate decides whether a machine that calls itself `is` is the one of the
// record r. is holds genuine MAC addresses only.
//
//	MAC addresses in common         UUID and serial                 same machine?
//	none                            whatever                        no
//	former ones only                agree                           yes
//	former ones only                silent, contradict, deny        no
//	some present one                agree                           yes: adapters were replaced
//	all of them, on both sides      contradict                      yes: firmware made a new UUID
//	all of them, on both sides      deny                            no: the adapter moved
//	some, or one side has more      contradict, deny                no: an adapter moved
//	all of one side                 silent                          yes: adapters added, or not up yet
//	half of the larger side         silent                          yes: an adapter was replaced
//	fewer                           silent                          no
func relate(r Record, is wire.Identity, smbios evidence) relation {
	rel := relation{smbios: smbios, current: common(r.MACs, is.MACs), past: common(r.FormerMACs, is.MACs)}
	fewer, more := min(len(r.MACs), len(is.MACs)), max(len(r.MACs), len(is.MACs))
	switch {
	case rel.current+rel.past == 0:
	case smbios == agrees:
		rel.same = true
	case rel.current == 0, smbios == denies:
	case smbios == contradicts:
		rel.same = rel.current == more
	default:
		rel.same = rel.current == fewer || rel.current*2 >= more
	}
	return rel
}

func common(a, b []string) int {
	n := 0
	for _, mac := range a {
		if slices.Contains(b, mac) {
			n++
		}
	}
	return n
}

// weigh compares SMBIOS values; one that other records have, too, says nothing.
func (x *Index) weigh(r Record, is wire.Identity) evidence {
	same, different := 0, 0
	compare := func(a, b string) {
		switch {
		case a == "" || b == "":
		case a != b:
			different++
		case len(x.values[a]) <= 1:
			same++
		}
	}
	compare(genuineUUID(r.UUID), genuineUUID(is.UUID))
	compare(serialKey(r.Serial), serialKey(is.Serial))
	switch {
	case same > 0 && different > 0: // a serial of the chassis, a UUID of the node
		return silent
	case same > 0:
		return agrees
	case different == 2:
		return denies
	case different == 1:
		return contradicts
	}
	return silent
}

// serialKey keeps serials apart from UUIDs in one index.
func serialKey(s string) string {
	if s = genuineSerial(s); s != "" {
		return "serial " + s
	}
	return ""
}

// stronger orders relations: negative when a is the better one.
func stronger(a, b relation) int {
	switch {
	case a.smbios == agrees && b.smbios != agrees:
		return -1
	case a.smbios != agrees && b.smbios == agrees:
		return 1
	}
	return cmp.Or(cmp.Compare(b.current, a.current), cmp.Compare(b.past, a.past))
}
