package admission_test

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"edeploy/appliance/internal/admission"

	"github.com/google/go-cmp/cmp"
)

// Who gets no place hears why, and the operator once a minute.
func TestBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said []string
		b := admission.NewBound("things", 3, 2, func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) })
		one, two := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
		var got []string
		take := func(peer netip.Addr) {
			began := time.Now()
			if _, err := b.Take(t.Context(), peer, 10*time.Second); err != nil {
				got = append(got, fmt.Sprintf("after %v: %v", time.Since(began), err))
			}
		}
		for _, peer := range []netip.Addr{one, one, one, two, two} {
			take(peer)
		}
		time.Sleep(time.Minute)
		take(two)
		ofOne, all := "10.0.0.1 has its share of things already (2 at once): ask again later", "all 3 places for things are taken: ask again later"
		if diff := cmp.Diff([]string{"after 10s: " + ofOne, "after 10s: " + all, "after 10s: " + all}, got); diff != "" {
			t.Errorf("answers (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{ofOne, all}, said); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
	})
}
