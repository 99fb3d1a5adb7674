package wire

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// WipePolicy says what a configuration script may do to data that no installation
// of the machine has written.
type WipePolicy string

// The policies, the strictest one last.
const (
	WipeYes    WipePolicy = "yes"    // overwrite it
	WipeAsk    WipePolicy = "ask"    // stop, and let the operator say so
	WipeRefuse WipePolicy = "refuse" // stop
)

var policies = []WipePolicy{WipeYes, WipeAsk, WipeRefuse}

// ParseWipePolicy reads a policy; "" is WipeYes.
func ParseWipePolicy(text string) (WipePolicy, error) {
	if text == "" {
		return WipeYes, nil
	}
	if p := WipePolicy(text); slices.Contains(policies, p) {
		return p, nil
	}
	return "", fmt.Errorf("policy %.40q: want 'yes', 'ask' or 'refuse'", text)
}

// Stricter is the stricter of two policies.
func (p WipePolicy) Stricter(other WipePolicy) WipePolicy {
	return policies[max(0, slices.Index(policies, p), slices.Index(policies, other))]
}

// ForeignDisk is a disk with such data.
type ForeignDisk struct {
	Disk  string `json:"disk"`  // "/dev/sdb (SSD 240, serial B, 240.0 GB, sata)"
	Holds string `json:"holds"` // in a few words: "sdb1 ntfs "Windows""
	Mark  DiskID `json:"mark"`  // that tells what is on it from anything else
}

func (f ForeignDisk) String() string { return f.Disk + ": " + f.Holds }

// CheckForeign refuses what no agent says.
func CheckForeign(disks []ForeignDisk) error {
	var marks []DiskID
	for _, d := range disks {
		if text := d.String(); len(text) > maxWipedText || strings.ContainsFunc(text, unicode.IsControl) {
			return fmt.Errorf("disk with data %.40q: want one line of %d bytes of text at most", d.Disk, maxWipedText)
		}
		marks = append(marks, d.Mark)
	}
	return CheckWritten(marks)
}
