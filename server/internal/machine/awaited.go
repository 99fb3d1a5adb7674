package machine

import (
	"time"

	"edeploy/server/api"
	"edeploy/server/wire"
)

// givenName is the one that the operator gave it before it came.
func (r Record) givenName() string {
	if r.Expected == nil {
		return ""
	}
	return r.Expected.Name
}

// Awaited tells whether the operator expects the machine, and it has not come
// yet.
func (r Record) Awaited() bool { return r.Expected != nil && r.Expected.Came.IsZero() }

// Arrive notes when a machine that the operator expects has come.
func (r *Record) Arrive(now time.Time) {
	if r.Awaited() {
		come := *r.Expected
		come.Came = now
		r.Expected = &come
	}
}

// BySerial are the machines that have this genuine serial.
func (x *Index) BySerial(serial string) []Record {
	var all []Record
	for _, id := range x.values[serialKey(serial)] {
		all = append(all, *x.records[id])
	}
	return all
}

// AwaitedBySerial answers the machine that the operator expects by this serial
// and no address.
func (x *Index) AwaitedBySerial(serial string) (Record, bool) {
	for _, r := range x.BySerial(serial) {
		if r.Awaited() && len(r.MACs) == 0 {
			return r, true
		}
	}
	return Record{}, false
}

// Expect is the record of a machine that nobody knows yet.
func (x *Index) Expect(is wire.Identity, e api.Expected, now time.Time) Record {
	return Record{ID: x.newID(is), Identity: is, State: Unknown, Since: now, Boot: Auto, Expected: &e}
}
