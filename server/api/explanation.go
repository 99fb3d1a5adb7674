package api

import "time"

// Explanation says why a machine got what it got at its last upload, and why
// not the profiles before.
type Explanation struct {
	Time     time.Time          `json:"time"`
	Section  string             `json:"section"`
	Profile  string             `json:"profile,omitempty"` // that it got; "": it was refused
	Again    bool               `json:"again,omitempty"`   // it held the profile before
	Refused  string             `json:"refused,omitempty"` // the sentence that the machine got
	Now      string             `json:"now,omitempty"`     // what the machine is doing now, see Machine
	Entry    string             `json:"cmdb,omitempty"`    // its CMDB entry, in Python syntax
	Profiles []ExplainedProfile `json:"profiles"`          // in the order of the state file, as far as they were tried
	More     int                `json:"more,omitempty"`    // profiles that were tried and are not listed
}

// ExplainedProfile is one profile of it.
type ExplainedProfile struct {
	Profile    string          `json:"profile"`
	Fits       bool            `json:"fits"`
	Reason     string          `json:"reason,omitempty"` // why not, in one sentence
	TooComplex bool            `json:"too_complex,omitempty"`
	Lines      []ExplainedLine `json:"lines,omitempty"`
	Closest    *ClosestFact    `json:"closest,omitempty"` // to the line that found nothing
}

// ExplainedLine is one line of a specs file.
type ExplainedLine struct {
	Line  int               `json:"line"`
	Spec  string            `json:"spec"`
	Fact  []string          `json:"fact,omitempty"`  // that it took; none: it found nothing
	Bound map[string]string `json:"bound,omitempty"` // variables that it bound
	Why   string            `json:"why,omitempty"`   // it is a selection of disks, and why it finds none
}

// ClosestFact is a fact that a line nearly took.
type ClosestFact struct {
	Fact  []string `json:"fact"`
	Equal int      `json:"equal"` // of its four fields that many fit
	Why   []string `json:"why"`   // what is wrong with the others
}
