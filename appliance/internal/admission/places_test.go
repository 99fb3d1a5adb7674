package admission_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"edeploy/appliance/internal/admission"
)

func TestPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said []string
		p := admission.NewPlaces("things", 3, 2, func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) })
		one, two := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
		take := func(peer netip.Addr, patience time.Duration) (func(), time.Duration, error) {
			began := time.Now()
			leave, err := p.Take(t.Context(), peer, patience)
			return leave, time.Since(began), err
		}
		leave, _, _ := take(one, 0)
		take(one, 0)
		_, took, err := take(one, 10*time.Second)
		if full, ok := errors.AsType[*admission.FullError](err); !ok || !full.OfPeer || took != 10*time.Second {
			t.Errorf("beyond the share: %v after %v", err, took)
		}
		if _, took, err := take(two, 10*time.Second); err != nil || took != 0 {
			t.Errorf("another peer: %v after %v", err, took)
		}
		if _, _, err := take(two, time.Second); err == nil || err.Error() != "all 3 places for things are taken: ask again later" {
			t.Errorf("beyond the total: %v", err)
		}
		time.AfterFunc(3*time.Second, leave)
		if _, took, err := take(two, 10*time.Second); err != nil || took != 3*time.Second {
			t.Errorf("a place that becomes free: %v after %v", err, took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.Take(ctx, one, time.Minute); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who leaves waits: %v", err)
		}
		want := "10.0.0.1 has its share of things already (2 at once): ask again later"
		if len(said) != 1 || said[0] != want {
			t.Errorf("within a minute was said %q, want %q", said, want)
		}
	})
}

func TestPeer(t *testing.T) {
	for addr, want := range map[string]string{
		"10.0.3.7:1234":             "10.0.3.7",
		"[::ffff:10.0.3.7]:1234":    "10.0.3.7",
		"[2001:db8:1:2:3:4:5:6]:80": "2001:db8:1:2::",
		"[fe80::1%eth0]:80":         "fe80::",
		"pipe":                      "invalid IP",
	} {
		if got := admission.Peer(addr).String(); got != want {
			t.Errorf("Peer(%s) = %s, want %s", addr, got, want)
		}
	}
}
