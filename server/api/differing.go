package api

import "fmt"

// Differing says what a machine has otherwise than the bill of materials that
// its profile names. Nothing is installed on it meanwhile.
type Differing struct {
	Profile     string       `json:"profile"` // that fits it
	Bill        string       `json:"bill"`
	Differences []Difference `json:"differences"`      // the first ones
	More        int          `json:"more,omitempty"`   // that are not listed
	Mark        string       `json:"mark"`             // another one when anything differs otherwise
	Anyway      bool         `json:"anyway,omitempty"` // it is to be installed all the same, once, if nothing else differs by then
}

// Count is the number of differences.
func (d Differing) Count() int { return len(d.Differences) + d.More }

// String is "differs from r7.bill in 3 properties".
func (d Differing) String() string {
	noun := "properties"
	if d.Count() == 1 {
		noun = "property"
	}
	return fmt.Sprintf("differs from %s.bill in %d %s", d.Bill, d.Count(), noun)
}

// Difference is a property of a machine that is not as the bill says. Without
// a Field it is a whole component, with all that is known about it.
type Difference struct {
	Category string `json:"category"`
	ID       string `json:"id"`
	Field    string `json:"field,omitempty"`
	Want     string `json:"want,omitempty"` // of the bill; "": it has no such property
	Has      string `json:"has,omitempty"`  // of the machine; "": it has no such property
}

// String is a line of a list, such as "firmware bios version: 1.2 instead of 1.1".
func (d Difference) String() string {
	name := d.Category + " " + d.ID
	if d.Field != "" {
		name += " " + d.Field
	}
	switch {
	case d.Has == "" && d.Field == "":
		return fmt.Sprintf("%s is missing: %s", name, d.Want)
	case d.Want == "" && d.Field == "":
		return fmt.Sprintf("%s is not in the bill: %s", name, d.Has)
	case d.Has == "":
		return fmt.Sprintf("%s: nothing instead of %s", name, d.Want)
	case d.Want == "":
		return fmt.Sprintf("%s: %s instead of nothing", name, d.Has)
	}
	return fmt.Sprintf("%s: %s instead of %s", name, d.Has, d.Want)
}
