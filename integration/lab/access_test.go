package lab_test

import (
	"testing"

	"edeploy/integration/lab"
)

// tag puts a frame into a VLAN, with a priority.
func tag(f []byte, vlan byte) []byte {
	return append(append(f[:12:12], 0x81, 0x00, 0xa0, vlan), f[12:]...)
}

func TestAccess(t *testing.T) {
	trunk, access := newHub(t), newHub(t)
	lab.Access(trunk, 12, access)
	a, b := trunk.Port("a"), access.Port("b")

	a.Send(frame(everyone, 1, "untagged"))
	a.Send(tag(frame(everyone, 1, "another VLAN"), 13))
	a.Send(tag(frame(everyone, 1, "in"), 12))
	if got := receive(t, b); got != "in" {
		t.Errorf("behind the access port %q is received", got)
	}
	b.Send(tag(frame(everyone, 2, "no trunk"), 12))
	b.Send(frame(1, 2, "out"))
	if got := receive(t, a); got != "\x00\x0c\x88\xb5out" {
		t.Errorf("on the trunk %q is received", got)
	}
	nothing(t, b)
}
