package api

import (
	"net/netip"
	"time"

	"edeploy/server/wire"
)

// ConfigFile is a file of a configuration directory.
type ConfigFile struct {
	Section  string    `json:"section"`
	Name     string    `json:"name"`
	Bytes    int64     `json:"bytes"`
	Modified time.Time `json:"modified"`
}

// ConfigSet is the body of a PUT that replaces several files together.
type ConfigSet struct {
	Files map[string]string `json:"files"`           // texts by name
	Prune bool              `json:"prune,omitempty"` // remove the profiles' files that are not in Files
}

// Replaced says what became of the configuration files of a deployment. The
// lists hold file names, sorted.
type Replaced struct {
	Added     []string  `json:"added,omitempty"`
	Changed   []string  `json:"changed,omitempty"`
	Removed   []string  `json:"removed,omitempty"`
	Unchanged []string  `json:"unchanged,omitempty"`
	Counts    []string  `json:"counts,omitempty"`   // what a new state file changes, such as "db: 2 -> 4"
	Warnings  []Problem `json:"warnings,omitempty"` // what an operator should look at
}

// Problem is something that an operator should mend.
type Problem struct {
	Section string     `json:"section,omitempty"` // deployment
	File    string     `json:"file,omitempty"`
	Line    int        `json:"line,omitempty"`   // from 1
	Column  int        `json:"column,omitempty"` // from 1
	Text    string     `json:"text"`             // the whole sentence, with file and line
	Warning bool       `json:"warning,omitempty"`
	Time    *time.Time `json:"time,omitempty"` // when it happened; none: it is so now
}

// Refusal is the body of every answer that is no success.
type Refusal struct {
	Error    string    `json:"error"`              // the sentence
	Problems []Problem `json:"problems,omitempty"` // of configuration files that were refused
}

// Version is what the appliance says of itself.
type Version struct {
	Addons   []wire.ImageRef `json:"addons,omitempty"` // images that every machine lays over its ramdisk
	DHCP     *AddressRange   `json:"dhcp,omitempty"`   // addresses that DHCP gives to any machine
	Protocol int             `json:"protocol"`         // see wire.Protocol
	Version  string          `json:"version"`
}

// AddressRange is from the first to the last address, both included.
type AddressRange struct {
	First netip.Addr `json:"first"`
	Last  netip.Addr `json:"last"`
}
