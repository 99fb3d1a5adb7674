package api

import (
	"time"

	"edeploy/server/wire"
)

// Image is one version of one role as the appliance has it.
type Image struct {
	wire.ImageRef
	Complete     bool      `json:"complete"`                // tree and manifest are there
	Entries      int       `json:"entries,omitempty"`       // of the tree
	Bytes        int64     `json:"bytes,omitempty"`         // of the tree's files
	ArchiveBytes int64     `json:"archive_bytes,omitempty"` // 0: no archive
	Published    time.Time `json:"published,omitzero"`      // when the manifest came
	Broken       string    `json:"broken,omitempty"`        // why it cannot be read; it is not complete then
}

// Part is one of the two files of an image that are uploaded.
type Part string

// The parts.
const (
	PartArchive  Part = "archive"
	PartManifest Part = "manifest"
)

// Headers of a resumable upload.
const (
	HeaderOffset = "Upload-Offset" // bytes that are here, or that the body starts at
	HeaderLength = "Upload-Length" // bytes of the whole part
	HeaderSHA256 = "Upload-Sha256" // of the whole part, hexadecimal
)

// Unfinished is an upload that is not published.
type Unfinished struct {
	wire.ImageRef
	Part    Part      `json:"part,omitempty"`
	Offset  int64     `json:"offset"` // bytes that are here
	Length  int64     `json:"length"`
	Peer    string    `json:"peer,omitempty"` // who began it
	Changed time.Time `json:"changed"`
	Broken  string    `json:"broken,omitempty"` // why it cannot be continued
	Aside   string    `json:"aside,omitempty"`  // no upload, but a leftover that was put aside, below TOP
}

// Publishing is one line of what the appliance says while it publishes an
// image. The last one is done or error.
type Publishing struct {
	Step  string `json:"step"`            // waiting, unpack, verify, done, error
	Done  int64  `json:"done,omitempty"`  // bytes
	Total int64  `json:"total,omitempty"` // bytes
	Image *Image `json:"image,omitempty"` // of done
	Error string `json:"error,omitempty"` // of error
}

// Upgrade is the metadata of one upgrade: TOP/metadata/FROM/ROLE/TO.
type Upgrade struct {
	From      string        `json:"from"`
	Role      string        `json:"role"`
	To        string        `json:"to"`
	Files     []UpgradeFile `json:"files"`
	Published time.Time     `json:"published"`
	Complete  bool          `json:"complete"`         // the image ROLE TO is here
	Broken    string        `json:"broken,omitempty"` // why its files cannot be read
	State     UpgradeState  `json:"state,omitempty"`  // of the answer to a PUT
}

// UpgradeFile is one file of it.
type UpgradeFile struct {
	Name   string `json:"name"` // below the directory, with slashes
	Bytes  int64  `json:"bytes"`
	Mode   string `json:"mode"`   // octal
	SHA256 string `json:"sha256"` // hexadecimal
}

// UpgradeState is what putting an upgrade did.
type UpgradeState string

// The states.
const (
	UpgradeNew      UpgradeState = "new"
	UpgradeSame     UpgradeState = "same"     // it was there already
	UpgradeReplaced UpgradeState = "replaced" // another one was there
)
