package share_test

import (
	"testing"

	"edeploy/images/internal/share"

	"github.com/google/go-cmp/cmp"
)

func TestPlaces(t *testing.T) {
	places := share.New(8)
	var releases []func()
	var got []string
	for _, address := range []string{"a:1", "a:2", "a:3", "[::1]:4", "[::1]:5", "c", "c", "d", "d", "e"} {
		release, err := places.Take(share.Peer(address))
		if err != nil {
			got = append(got, address+": "+err.Error())
			continue
		}
		releases = append(releases, release)
	}
	want := []string{"a:3: 2 from one address", "e: 8 at once"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("refused (-want +got):\n%s", diff)
	}
	releases[0]()
	if _, err := places.Take("a"); err != nil {
		t.Errorf("after a place was given back: %v", err)
	}
}
