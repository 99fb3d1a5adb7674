// Package fileset knows the files that an operator brings to a configuration
// directory: which names they have, whether their content can be used, and
// what a new CMDB must say about the entries that machines hold.
package fileset

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"edeploy/server/internal/profile"
)

// Bounds of what an operator brings.
const (
	MaxFileBytes = 1 << 20 // one file
	MaxBytes     = 8 << 20 // all files that are replaced together
)

// Kind is what a file is for.
type Kind string

// The kinds, as the ends of the names.
const (
	State     Kind = "state"
	Specs     Kind = ".specs"
	Configure Kind = ".configure"
	CMDB      Kind = ".cmdb"
	Bill      Kind = ".bill"      // expected hardware; its stem is no profile, but the bill's name
	Original  Kind = ".cmdb.orig" // written by the server, for reading

	// Keys is who may log in to machines that run the agent, as OpenSSH's
	// sshd(8) has it, without options.
	Keys Kind = "authorized_keys"
)

// Name is the name of a configuration file.
type Name struct {
	Kind    Kind
	Profile string // the stem; "" for state and authorized_keys
}

func (n Name) String() string { return n.Profile + string(n.Kind) }

// ParseName reads the name of a file: state, authorized_keys, NAME.specs,
// NAME.configure, NAME.cmdb, NAME.bill or NAME.cmdb.orig.
func ParseName(file string) (Name, error) {
	if kind := Kind(file); kind == State || kind == Keys {
		return Name{Kind: kind}, nil
	}
	for _, kind := range []Kind{Specs, Configure, CMDB, Bill, Original} {
		stem, ok := strings.CutSuffix(file, string(kind))
		if !ok {
			continue
		}
		if err := checkProfile(stem); err != nil {
			return Name{}, fmt.Errorf("file name %q: %w", clip(file), err)
		}
		return Name{kind, stem}, nil
	}
	return Name{}, fmt.Errorf("file name %q: want state, authorized_keys, NAME.specs, NAME.configure, NAME.cmdb or NAME.bill", clip(file))
}

// checkProfile is stricter than the reading of files: a name that comes over
// the network must not be able to steer a terminal.
func checkProfile(name string) error {
	if err := profile.CheckName(name); err != nil {
		return err
	}
	if !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return fmt.Errorf("profile name %q holds a control character or is no UTF-8 text", name)
	}
	return nil
}

func clip(s string) string {
	const most = 100
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}
