package wire

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// WipePath is the URL path where a machine asks, right before it erases its
// disks, whether it is to do so: it posts its Identity, the answer is a
// WipeOrder. 409: it is not, and the sentence says why.
const WipePath = "/api/v1/wipe"

// WipeOrder says whose disks are to be erased.
type WipeOrder struct {
	Machine string `json:"machine"` // id
	Name    string `json:"name"`    // what the operator calls it
	Identity
}

// For tells whether the order is meant for a machine.
func (o WipeOrder) For(is Identity) bool {
	if len(is.MACs) > 0 {
		return slices.ContainsFunc(is.MACs, func(mac string) bool { return slices.Contains(o.MACs, mac) })
	}
	return len(o.MACs) == 0 && o.UUID == is.UUID && o.Serial == is.Serial
}

// WipedDisk says what became of one disk that was to be erased.
type WipedDisk struct {
	Name    string  `json:"name"` // "sda"
	Model   string  `json:"model,omitempty"`
	Serial  string  `json:"serial,omitempty"`
	Bytes   int64   `json:"bytes"`             // its size
	Method  string  `json:"method,omitempty"`  // that erased it; of several the last one
	Seconds float64 `json:"seconds,omitempty"` // that it took
	Samples int     `json:"samples,omitempty"` // blocks that were read back
	Held    int     `json:"held,omitempty"`    // of these: held data before
	Error   string  `json:"error,omitempty"`   // why it is not proven to be erased; "": it is
}

// String is a line of the list of a machine's disks.
func (d WipedDisk) String() string {
	if d.Error != "" {
		return fmt.Sprintf("%s: NOT ERASED: %s", d.Name, d.Error)
	}
	return fmt.Sprintf("%s: erased by %s in %.1f s; of %d blocks read back, %d held data before, and none does now", d.Name, d.Method, d.Seconds, d.Samples, d.Held)
}

// maxWipedText bounds the texts about a disk.
const maxWipedText = 1000

// CheckWiped refuses what no agent says about disks.
func CheckWiped(disks []WipedDisk) error {
	if len(disks) > MaxDisks {
		return fmt.Errorf("%d erased disks: want %d at most", len(disks), MaxDisks)
	}
	for _, d := range disks {
		if d.Name == "" || d.Bytes < 0 || d.Seconds < 0 || d.Samples < 0 || d.Held < 0 {
			return fmt.Errorf("erased disk %.40q: want a name, and no negative number", d.Name)
		}
		if text := d.Name + d.Model + d.Serial + d.Method + d.Error; len(text) > maxWipedText || strings.ContainsFunc(text, unicode.IsControl) {
			return fmt.Errorf("erased disk %.40q: want one line of %d bytes of text at most", d.Name, maxWipedText)
		}
	}
	return nil
}
