package appliance

import (
	"testing"

	"edeploy/server/wire"
)

// FuzzHosts: whatever the file holds, it is read or refused with its line.
func FuzzHosts(f *testing.F) {
	f.Add("52:54:00:12:34:56 10.0.3.9 hold grub # a comment\n")
	f.Add("52-54-00-12-34-56 ignore\n\n")
	f.Add("printer ::1\n")
	f.Fuzz(func(t *testing.T, text string) {
		hosts, err := parseHosts(text)
		if err != nil && hosts != nil {
			t.Error("both hosts and an error")
		}
		for mac, h := range hosts {
			if wire.NormalMAC(mac) != mac || h.Address.IsValid() && !h.Address.Is4() {
				t.Errorf("%q: %+v", mac, h)
			}
		}
	})
}
