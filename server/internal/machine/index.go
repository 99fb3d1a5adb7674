package machine

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"edeploy/server/wire"
)

// Errors that callers branch on.
var (
	// ErrAmbiguous: the description fits two records equally well.
	ErrAmbiguous = errors.New("two known machines fit equally well")
	// ErrNameless: nothing in the description tells it from others.
	ErrNameless = errors.New("nothing identifies the machine: no MAC address of a network adapter, no genuine UUID, no genuine serial")
	// ErrStranger: no record fits, and another machine holds one of the addresses.
	ErrStranger = errors.New("another machine is known by one of these MAC addresses")
)

// Index is all records, in memory. Many may read one that nobody changes;
// whoever wants to change it makes a Clone.
type Index struct {
	records map[string]*Record  // the records themselves and the lists of ids are never changed
	byMAC   map[string][]string // present and former addresses -> ids
	values  map[string][]string // genuine UUIDs and serial keys -> ids
}

// NewIndex fills an index.
func NewIndex(records ...Record) *Index {
	x := &Index{map[string]*Record{}, map[string][]string{}, map[string][]string{}}
	for _, r := range records {
		x.Put(r)
	}
	return x
}

// Clone is an index of its own with the same records.
func (x *Index) Clone() *Index {
	return &Index{maps.Clone(x.records), maps.Clone(x.byMAC), maps.Clone(x.values)}
}

// Put adds or replaces a record.
func (x *Index) Put(r Record) {
	x.Remove(r.ID)
	x.records[r.ID] = &r
	for _, mac := range slices.Concat(r.MACs, r.FormerMACs) {
		x.byMAC[mac] = append(slices.Clip(x.byMAC[mac]), r.ID)
	}
	for _, value := range values(r.Identity) {
		x.values[value] = append(slices.Clip(x.values[value]), r.ID)
	}
}

// Remove takes a record out.
func (x *Index) Remove(id string) {
	r, ok := x.records[id]
	if !ok {
		return
	}
	delete(x.records, id)
	for _, mac := range slices.Concat(r.MACs, r.FormerMACs) {
		drop(x.byMAC, mac, id)
	}
	for _, value := range values(r.Identity) {
		drop(x.values, value, id)
	}
}

// drop takes an id out of a list, in a new list.
func drop(lists map[string][]string, key, id string) {
	left := slices.DeleteFunc(slices.Clone(lists[key]), func(other string) bool { return other == id })
	if lists[key] = left; len(left) == 0 {
		delete(lists, key)
	}
}

// values are the genuine SMBIOS values of an identity, as the index has them.
func values(is wire.Identity) []string {
	all := []string{genuineUUID(is.UUID), serialKey(is.Serial)}
	return slices.DeleteFunc(all, func(v string) bool { return v == "" })
}

// Len is the number of records.
func (x *Index) Len() int { return len(x.records) }

// Get answers the record with this id.
func (x *Index) Get(id string) (Record, bool) {
	if r, ok := x.records[id]; ok {
		return *r, true
	}
	return Record{}, false
}

// All answers all records, by id.
func (x *Index) All() []Record {
	all := make([]Record, 0, len(x.records))
	for _, r := range x.records {
		all = append(all, *r)
	}
	slices.SortFunc(all, func(x, y Record) int { return strings.Compare(x.ID, y.ID) })
	return all
}

// Strangers are the ids of the machines that nobody would miss, those first
// that have been so for the longest time.
func (x *Index) Strangers() []string {
	var all []Record
	for _, r := range x.records {
		if r.Stranger() {
			all = append(all, *r)
		}
	}
	slices.SortFunc(all, func(x, y Record) int { return cmp.Or(x.Since.Compare(y.Since), strings.Compare(x.ID, y.ID)) })
	ids := make([]string, len(all))
	for i, r := range all {
		ids[i] = r.ID
	}
	return ids
}

// ByMAC answers the machine that has, or else the one that had, this address.
func (x *Index) ByMAC(mac string) (Record, bool) {
	mac = wire.NormalMAC(mac)
	former, found := Record{}, false
	for _, id := range x.byMAC[mac] {
		r := *x.records[id]
		if slices.Contains(r.MACs, mac) {
			return r, true
		}
		if !found || r.Kept() {
			former, found = r, true
		}
	}
	return former, found
}

// ByUUID answers the machine that has this genuine UUID, when only one has.
func (x *Index) ByUUID(uuid string) (Record, bool) { return x.only(genuineUUID(uuid)) }

// only answers the machine that has a genuine value, when only one has.
func (x *Index) only(value string) (Record, bool) {
	if ids := x.values[value]; len(ids) == 1 {
		return *x.records[ids[0]], true
	}
	return Record{}, false
}

// Find decides which record belongs to a machine; false: none, it is new. When
// it may be a machine that is kept, and nothing says which, it is ErrKept.
func (x *Index) Find(is wire.Identity) (Record, bool, error) {
	is.MACs = genuineMACs(is.MACs)
	r, known, err := x.find(is)
	if err == nil {
		err = x.guard(r, is)
	}
	if err != nil {
		return Record{}, false, err
	}
	return r, known, nil
}

func (x *Index) find(is wire.Identity) (Record, bool, error) {
	if len(is.MACs) == 0 {
		return x.findWithoutMAC(is)
	}
	var best Record
	var bestRel relation
	tie := ""
	for _, r := range x.candidates(is.MACs) {
		rel := relate(r, is, x.weigh(r, is))
		if !rel.same {
			continue
		}
		switch order := stronger(rel, bestRel); {
		case best.ID == "" || order < 0:
			best, bestRel, tie = r, rel, ""
		case order == 0:
			tie = r.ID
		}
	}
	if tie != "" {
		return Record{}, false, fmt.Errorf("%w: %s and %s, by the addresses %s: forget the wrong one", ErrAmbiguous, best.ID, tie, strings.Join(is.MACs, " "))
	}
	return best, best.ID != "", nil
}

// candidates are the records with an address in common, by id.
func (x *Index) candidates(macs []string) []Record {
	var ids []string
	for _, mac := range macs {
		ids = append(ids, x.byMAC[mac]...)
	}
	slices.Sort(ids)
	var all []Record
	for _, id := range slices.Compact(ids) {
		all = append(all, *x.records[id])
	}
	return all
}

// findWithoutMAC knows a machine again that has no network adapter: by UUID
// and serial, both as before, and only among machines of its kind.
func (x *Index) findWithoutMAC(is wire.Identity) (Record, bool, error) {
	if len(values(is)) == 0 {
		return Record{}, false, ErrNameless
	}
	for _, r := range x.All() {
		if len(r.MACs)+len(r.FormerMACs) == 0 && slices.Equal(values(r.Identity), values(is)) {
			return r, true, nil
		}
	}
	return Record{}, false, nil
}

// Admission is what a description changes in the index; nothing is changed
// before the caller puts the records.
type Admission struct {
	Record Record   // the machine, with the identity it shows now
	New    bool     // it was not known
	Others []Record // machines that lost an address to it
}

// Admit decides which machine a full description (an upload) belongs to, or
// makes a new record. Its addresses belong to it alone from now on.
func (x *Index) Admit(is wire.Identity) (Admission, error) {
	r, known, err := x.Find(is)
	if err != nil {
		return Admission{}, err
	}
	is.MACs = genuineMACs(is.MACs)
	if !known {
		r = Record{ID: x.newID(is), State: Unknown, Boot: Auto}
	}
	r.FormerMACs = former(r, is.MACs)
	r.Identity = is
	return Admission{Record: r, New: !known, Others: x.losers(r)}, nil
}

// maxFormer bounds the addresses of adapters that are gone.
const maxFormer = 16

func former(r Record, now []string) []string {
	var all []string
	for _, mac := range slices.Concat(r.MACs, r.FormerMACs) {
		if !slices.Contains(now, mac) && len(all) < maxFormer {
			all = append(all, mac)
		}
	}
	return all
}

// losers are the other records that have one of r's present addresses,
// without it.
func (x *Index) losers(r Record) []Record {
	var all []Record
	for _, other := range x.candidates(r.MACs) {
		if other.ID == r.ID {
			continue
		}
		taken := func(mac string) bool { return slices.Contains(r.MACs, mac) }
		other.MACs = slices.DeleteFunc(slices.Clone(other.MACs), taken)
		other.FormerMACs = slices.DeleteFunc(slices.Clone(other.FormerMACs), taken)
		all = append(all, other)
	}
	return all
}

// Notice decides which machine a report belongs to. A report may know a part
// of the addresses only (drivers are still loading), so it adds addresses and
// never takes one from another machine.
func (x *Index) Notice(is wire.Identity) (Admission, error) {
	r, known, err := x.Find(is)
	if err != nil {
		return Admission{}, err
	}
	macs := genuineMACs(is.MACs)
	if !known {
		if others := x.candidates(macs); len(others) > 0 {
			return Admission{}, fmt.Errorf("%w: %s", ErrStranger, others[0].ID)
		}
		is.MACs = macs
		return Admission{Record: Record{ID: x.newID(is), Identity: is, State: Unknown, Boot: Auto}, New: true}, nil
	}
	for _, mac := range macs {
		if len(x.byMAC[mac]) == 0 && len(r.MACs) < MaxMACs {
			r.MACs = append(slices.Clip(r.MACs), mac)
		}
	}
	return Admission{Record: r}, nil
}

// newID makes an id that no record has: from the first MAC address, else from
// UUID or serial.
func (x *Index) newID(is wire.Identity) string {
	name := "serial-" + is.Serial
	switch {
	case len(is.MACs) > 0:
		name = is.MACs[0]
	case genuineUUID(is.UUID) != "":
		name = "uuid-" + is.UUID
	}
	name = safe(name)
	id := name
	for n := 2; ; n++ {
		if _, taken := x.records[id]; !taken {
			return id
		}
		id = name + "-" + strconv.Itoa(n)
	}
}

// safe makes a file name of it: letters, digits, dot, dash, underscore.
func safe(s string) string {
	s = strings.Map(func(c rune) rune {
		if idCharacter(c) {
			return c
		}
		return '-'
	}, strings.ToLower(s))
	return s[:min(len(s), 80)]
}

func idCharacter(c rune) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_'
}

// ValidID tells whether s can be the id of a record.
func ValidID(s string) bool {
	return s != "" && len(s) <= 100 && s[0] != '.' && !strings.ContainsFunc(s, func(c rune) bool { return !idCharacter(c) })
}
