// Package api is what operators and appliance say to each other: the JSON of
// /api/v1/, and a client that asks. What machines and server say is in
// server/wire.
//
// It is a leaf: every room may import it, and it imports server/wire only.
package api

import (
	"strings"
	"time"

	"edeploy/server/wire"
)

// Machine is a machine as the appliance knows it.
type Machine struct {
	ID          string           `json:"id"`
	DisplayName string           `json:"display_name"`
	MACs        []string         `json:"macs"`
	FormerMACs  []string         `json:"former_macs,omitempty"`
	UUID        string           `json:"uuid,omitempty"`
	Serial      string           `json:"serial,omitempty"`
	Name        string           `json:"name,omitempty"`          // product, serial, MAC
	Hardware    string           `json:"hardware_file,omitempty"` // in HWDIR
	Section     string           `json:"section,omitempty"`       // deployment of its last upload
	BootSection string           `json:"boot_section,omitempty"`  // deployment that the operator has set for it
	State       string           `json:"state"`                   // unknown, installing, installed, failed, wiping, wiped, wipe-failed
	Since       time.Time        `json:"since"`
	Boot        string           `json:"boot"`              // what the operator has set: auto, reinstall, rescue, hold, local, wipe
	NextBoot    wire.BootAction  `json:"next_boot"`         // what follows from state and boot
	Loader      string           `json:"loader"`            // what the operator has pinned: one of Loaders, or auto
	Loaders     []FirmwareLoader `json:"loaders,omitempty"` // what the boot services have found out
	Model       string           `json:"model,omitempty"`   // vendor and product of its last upload
	Image       *wire.ImageRef   `json:"image,omitempty"`
	LastError   string           `json:"last_error,omitempty"`
	Allocation  *Allocation      `json:"allocation,omitempty"`
	Expected    *Expected        `json:"expected,omitempty"` // what the operator has said before it came
	Differs     *Differing       `json:"differs,omitempty"`  // from the expected hardware
	Foreign     *Foreign         `json:"foreign,omitempty"`  // data on its disks, because of which it is held
	Wipe        *Wipe            `json:"wipe,omitempty"`     // how its disks were erased
	Now         string           `json:"now"`                // what it is doing, in words
	Progress    *Progress        `json:"progress,omitempty"`
	History     []HistoryLine    `json:"history,omitempty"` // only of a single machine; oldest first
}

// AnyLoader is the loader of machines that have none pinned: the boot services
// find one that works.
const AnyLoader = "auto"

// Loaders are the loaders that a machine can be pinned to.
var Loaders = []string{"ipxe", "ipxe-native", "grub", "http"}

// FirmwareLoader is what is known about the loaders of one firmware of a machine.
type FirmwareLoader struct {
	MAC      string   `json:"mac"`              // of the card that it booted from
	Firmware string   `json:"firmware"`         // bios, uefi-x64, uefi-x64-http
	Works    string   `json:"works,omitempty"`  // the last one that brought the machine to the agent
	Failed   []string `json:"failed,omitempty"` // those that did not since
	Next     string   `json:"next"`             // the one that it is offered next, unless one is pinned
}

// NewLoader is the loader that a machine is to be pinned to; AnyLoader: none.
type NewLoader struct {
	Loader string `json:"loader"`
}

// Allocation is what a machine holds.
type Allocation struct {
	Profile   string    `json:"profile"`
	Section   string    `json:"section"`
	Counted   bool      `json:"counted"`
	Var       string    `json:"var"`             // a dictionary in Python syntax
	Variables any       `json:"variables"`       // the same as a JSON object
	CMDB      string    `json:"cmdb,omitempty"`  // its entry, in Python syntax
	Entry     any       `json:"entry,omitempty"` // the same as a JSON object
	Given     time.Time `json:"given"`
	Asked     int       `json:"asked"`
	Installed time.Time `json:"installed,omitzero"` // first time that an installation with it was good
}

// Foreign is data that no installation of the machine has written, on disks that
// the script of its profile may write to.
type Foreign struct {
	Disks  []wire.ForeignDisk `json:"disks"`
	Anyway bool               `json:"anyway,omitempty"` // it may be overwritten, until the machine is installed
}

// String is "the disk /dev/sdb (...) holds sdb1 ntfs".
func (f Foreign) String() string {
	var words []string
	for _, d := range f.Disks {
		words = append(words, "the disk "+d.Disk+" holds "+d.Holds)
	}
	return strings.Join(words, "; ")
}

// Wipe is the erasing of a machine's disks.
type Wipe struct {
	Begun time.Time        `json:"begun"`           // when the server let it begin
	Ended time.Time        `json:"ended,omitzero"`  // zero: it is not over
	Disks []wire.WipedDisk `json:"disks,omitempty"` // known when it is over
}

// Progress is what a machine is doing now. It is kept in memory only.
type Progress struct {
	Step           string    `json:"step"`
	Status         string    `json:"status"`
	Message        string    `json:"message,omitempty"`
	Bytes          int64     `json:"bytes,omitempty"`
	TotalBytes     int64     `json:"total_bytes,omitempty"`
	Percent        float64   `json:"percent,omitempty"`          // of TotalBytes, 0 to 100
	BytesPerSecond float64   `json:"bytes_per_second,omitempty"` // of late
	Started        time.Time `json:"started"`                    // the step
	Updated        time.Time `json:"updated"`
}

// NewMachine is the operator's word about a MAC address: it belongs to a known
// machine, or is a machine of its own, which is to be installed.
type NewMachine struct {
	MAC     string `json:"mac"`
	Machine string `json:"machine,omitempty"` // that has the adapter; "": it is a machine of its own
}

// NewSection is the deployment that a machine is to belong to; "": the default one.
type NewSection struct {
	Section string `json:"section"`
}

// NewBoot is what a machine is to boot: auto, reinstall, rescue, hold, local,
// wipe.
type NewBoot struct {
	Action string `json:"action"`
}

// Forgotten is a machine that an operator has forgotten, and what that has
// made free. It can be taken back.
type Forgotten struct {
	ID          string    `json:"id"`
	DisplayName string    `json:"display_name"`
	MACs        []string  `json:"macs"`
	State       string    `json:"state"` // that it was in
	Section     string    `json:"section,omitempty"`
	Profile     string    `json:"profile,omitempty"` // that it held
	Counted     bool      `json:"counted,omitempty"` // it gave one count back
	CMDB        string    `json:"cmdb,omitempty"`    // the entry that it gave back, in Python syntax
	Entry       any       `json:"entry,omitempty"`   // the same as JSON
	Time        time.Time `json:"forgotten"`
}

// ForgottenStrangers says how many machines were forgotten together.
type ForgottenStrangers struct {
	Forgotten int `json:"forgotten"`
}

// Log is a log that a machine has sent, gzip-compressed.
type Log struct {
	Name     string    `json:"name"`
	Bytes    int64     `json:"bytes"` // as it is kept
	Modified time.Time `json:"modified"`
}

// Event is something that happened to a machine, or to the services themselves:
// those have neither Machine nor MAC.
type Event struct {
	Time           time.Time `json:"time"`
	Machine        string    `json:"machine,omitempty"` // id, "" when the machine is not known yet
	Name           string    `json:"name"`              // host name, else sysname, else MAC address; or that of a service
	MAC            string    `json:"mac,omitempty"`     // that asked for what it boots, as wire.NormalMAC writes it
	UUID           string    `json:"uuid,omitempty"`    // SMBIOS UUID that it told then
	Step           string    `json:"step"`              // a wire.Step, or boot, match
	Status         string    `json:"status"`            // a wire.Status, or note
	Message        string    `json:"message,omitempty"`
	Seconds        float64   `json:"seconds,omitempty"`
	Percent        float64   `json:"percent,omitempty"`
	BytesPerSecond float64   `json:"bytes_per_second,omitempty"`
}
