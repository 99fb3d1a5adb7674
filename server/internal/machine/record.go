// Package machine says which machine is speaking and what is known about it.
//
// A machine is known by its MAC addresses. UUID and serial only support or
// contradict what the MAC addresses say: in the field they are often zero,
// placeholders of the board maker, or the same on a whole pallet.
package machine

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"edeploy/server/api"
	"edeploy/server/internal/assign"
	"edeploy/server/internal/literal"
	"edeploy/server/wire"
)

// State is where a machine stands.
type State string

// The states.
const (
	Unknown    State = "unknown"     // it has been seen, nothing was handed out
	Installing State = "installing"  // it has a configuration and works on it
	Installed  State = "installed"   // it reported that it is good: it boots its own disk
	Failed     State = "failed"      // its last installation failed
	Wiping     State = "wiping"      // it was let to erase its disks
	Wiped      State = "wiped"       // its disks are erased
	WipeFailed State = "wipe-failed" // one of its disks, at least, is not
)

// Boot is what the operator wants a machine to boot.
type Boot string

// The wishes.
const (
	Auto      Boot = "auto"      // what its state says
	Reinstall Boot = "reinstall" // install again; ends when the machine asks for its configuration
	Rescue    Boot = "rescue"
	Hold      Boot = "hold"
	Local     Boot = "local"
	Wipe      Boot = "wipe" // erase its disks; ends when it says that it has
)

// ParseBoot reads a wish.
func ParseBoot(s string) (Boot, error) {
	switch b := Boot(s); b {
	case Auto, Reinstall, Rescue, Hold, Local, Wipe:
		return b, nil
	}
	return "", fmt.Errorf("boot action %q: want reinstall, rescue, hold, local, wipe or auto", s)
}

// Record is all that is kept about one machine, as one JSON document.
type Record struct {
	ID string `json:"id"` // from its first MAC address; never changes
	wire.Identity
	FormerMACs   []string       `json:"former_macs,omitempty"`  // adapters it had once
	Name         string         `json:"name,omitempty"`         // sysname: product, serial, MAC
	Host         string         `json:"host,omitempty"`         // host name of the last CMDB entry it held
	Section      string         `json:"section,omitempty"`      // deployment of its last upload
	BootSection  string         `json:"boot_section,omitempty"` // deployment that the operator has set for it
	Loader       string         `json:"loader,omitempty"`       // that the operator has pinned, one of api.Loaders; "": none
	Model        string         `json:"model,omitempty"`        // vendor and product of its last upload
	State        State          `json:"state"`
	Since        time.Time      `json:"since"` // when it came into this state
	Boot         Boot           `json:"boot"`
	Image        wire.ImageRef  `json:"image,omitzero"`
	BootDisk     wire.DiskID    `json:"boot_disk,omitempty"` // that its last installation made bootable
	Disks        []wire.DiskID  `json:"disks,omitempty"`     // that its last installation has written
	LastError    string         `json:"last_error,omitempty"`
	Allocation   *Allocation    `json:"allocation,omitempty"`
	HardwareFile string         `json:"hardware_file,omitempty"` // name of its saved description
	Differs      *api.Differing `json:"differs,omitempty"`       // why it gets nothing: its hardware is not the expected one
	Expected     *api.Expected  `json:"expected,omitempty"`      // what the operator has said before it came
	Foreign      *api.Foreign   `json:"foreign,omitempty"`       // why its installation has stopped: data on its disks
	Wipe         *api.Wipe      `json:"wipe,omitempty"`          // how its disks were erased, until it is installed again
}

// Allocation is what a machine holds: a profile, perhaps a count and a CMDB
// entry.
type Allocation struct {
	assign.Holding
	Section   string    `json:"section"`            // deployment it was taken from
	Var       string    `json:"var"`                // the variables it was given, a dictionary in Python syntax
	Given     time.Time `json:"given"`              // first time
	Asked     int       `json:"asked"`              // times it was handed out
	Installed time.Time `json:"installed,omitzero"` // first time that an installation with it was good
}

// Written are the disks that installations of the machine have written, as far
// as they said so, first the one with the boot loader.
func (r Record) Written() []wire.DiskID {
	if r.BootDisk == "" {
		return r.Disks
	}
	others := slices.DeleteFunc(slices.Clone(r.Disks), func(d wire.DiskID) bool { return d == r.BootDisk })
	return slices.Insert(others, 0, r.BootDisk)
}

// DisplayName is what an operator calls the machine: the host name of its
// CMDB entry, or of the last one it held, else the name that it was expected
// by, else what is written on it.
func (r Record) DisplayName() string {
	if r.Allocation != nil {
		if name := HostName(r.Allocation.Var); name != "" {
			return name
		}
	}
	return cmp.Or(r.Host, r.givenName(), r.Name, r.ID)
}

// HostName is the variable of that name, of a dictionary in Python syntax.
func HostName(vars string) string {
	doc, err := literal.Parse("variables", vars)
	if err != nil {
		return "" // the record was edited; the name is only for show
	}
	dict, ok := doc.Node.Value.(*literal.Dict)
	if !ok {
		return ""
	}
	name, _ := dict.Get("hostname")
	text, _ := name.(string)
	return text
}

// Stranger tells whether nobody would miss the machine: it holds nothing, is
// not installed, and no operator has said anything about it. It comes back with
// its next word.
func (r Record) Stranger() bool {
	return r.Allocation == nil && r.State != Installed && r.Boot == Auto && r.BootSection == "" && r.Expected == nil && r.Loader == ""
}

// BootAction is what the machine boots next.
func (r Record) BootAction() wire.BootAction {
	switch r.Boot {
	case Rescue:
		return wire.BootRescue
	case Hold:
		return wire.BootHold
	case Local:
		return wire.BootLocal
	case Wipe:
		return wire.BootWipe
	case Reinstall:
		return wire.BootInstall
	}
	switch r.State {
	case Installed:
		return wire.BootLocal
	case Wiping: // nobody can want either what is half erased or something new there
		return wire.BootHold
	}
	return wire.BootInstall
}

// Encode writes the record as the text of its document.
func (r Record) Encode() ([]byte, error) {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode record of machine %s: %w", r.ID, err)
	}
	return append(text, '\n'), nil
}

// Decode reads a record.
func Decode(text []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(text, &r); err != nil {
		return r, err
	}
	if !ValidID(r.ID) {
		return r, fmt.Errorf("id %q is no machine id", r.ID)
	}
	if _, err := ParseBoot(string(r.Boot)); err != nil {
		return r, err
	}
	switch r.State {
	case Unknown, Installing, Installed, Failed, Wiping, Wiped, WipeFailed:
		return r, nil
	}
	return r, fmt.Errorf("state %q: want unknown, installing, installed, failed, wiping, wiped or wipe-failed", r.State)
}
