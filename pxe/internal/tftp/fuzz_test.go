package tftp_test

import (
	"bytes"
	"testing"
	"time"
)

// FuzzClient: whatever a client sends to the server's port, and to the one that
// answers it, another client is served.
func FuzzClient(f *testing.F) {
	for _, options := range []string{"", "blksize\x001468\x00tsize\x000\x00windowsize\x004\x00", "blksize\x000\x00", "tsize\x00-1\x00timeout\x00256\x00", "blksize\x0099999999999999999999\x00x"} {
		f.Add([]byte("\x00\x01loader\x00octet\x00"+options), []byte("\x00\x04\x00\x00"))
	}
	f.Add([]byte("\x00\x01loader\x00NetASCII\x00"), []byte("\x00\x04\x00\x01"))
	f.Add([]byte("\x00\x01grub/grub.cfg\x00octet\x00"), []byte("\x00\x05\x00\x08User aborted"))
	f.Add([]byte("\x00\x01../../etc/passwd\x00octet\x00"), []byte("\x00\x03\x00\x01data"))
	f.Add([]byte("\x00\x02loader\x00octet\x00"), []byte{})
	loader := random(700)
	f.Fuzz(func(t *testing.T, request, answer []byte) {
		if len(request) > 4096 || len(answer) > 4096 {
			return
		}
		s := serve(t, 0, map[string][]byte{"loader": loader})
		c := dial(t)
		if _, err := c.WriteToUDPAddrPort(request, s.addr); err != nil {
			t.Fatal(err)
		}
		if op, _ := c.reply(5 * time.Millisecond); op != 0 {
			if _, err := c.WriteToUDP(answer, c.server); err != nil {
				t.Fatal(err)
			}
			c.reply(time.Millisecond)
		}
		if got := dialFrom(t, 2).fetch(s.addr, "loader", 512); !bytes.Equal(got, loader) {
			t.Errorf("another client got %d bytes, want %d", len(got), len(loader))
		}
	})
}
