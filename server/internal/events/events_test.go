package events_test

import (
	"context"
	"testing"
	"testing/synctest"

	"edeploy/server/internal/events"

	"github.com/google/go-cmp/cmp"
)

// TestAfter: readers may start anywhere, at any time; what is not kept any more
// is left out.
func TestAfter(t *testing.T) {
	done, cancel := context.WithCancel(context.Background())
	cancel()
	for _, tt := range []struct {
		appended int
		after    uint64
		want     []uint64
	}{
		{0, 0, nil}, {0, 5, nil}, {2, 0, []uint64{1, 2}}, {2, 1, []uint64{2}}, {2, 2, nil}, {2, 9, nil},
		{3, 0, []uint64{1, 2, 3}}, {4, 0, []uint64{2, 3, 4}}, {50, 0, []uint64{48, 49, 50}}, {50, 48, []uint64{49, 50}},
	} {
		s := events.New[int](3)
		for n := 1; n <= tt.appended; n++ {
			s.Append(n)
		}
		var got []uint64
		for number, e := range s.After(done, tt.after) {
			if number != uint64(e) {
				t.Errorf("event %d has the number %d", e, number)
			}
			got = append(got, number)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%d appended, after %d (-want +got):\n%s", tt.appended, tt.after, diff)
		}
	}
}

// TestReaders: one that reads gets every event as it happens, one that does not
// read keeps nobody from appending.
func TestReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := events.New[int](3)
		var fast, slow []int
		resume := make(chan struct{})
		go func() {
			for _, e := range s.After(ctx, 0) {
				fast = append(fast, e)
			}
		}()
		go func() {
			for _, e := range s.After(ctx, 0) {
				slow = append(slow, e)
				<-resume
			}
		}()
		for n := 1; n <= 10; n++ {
			s.Append(n)
			synctest.Wait()
		}
		close(resume)
		synctest.Wait()
		if diff := cmp.Diff([][]int{{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, {1, 8, 9, 10}}, [][]int{fast, slow}); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		cancel()
	})
}
