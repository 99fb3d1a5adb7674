package quiet_test

import (
	"fmt"
	"testing"
	"time"

	"edeploy/pxe/internal/quiet"
)

func TestLimiter(t *testing.T) {
	var l quiet.Limiter
	now := time.Unix(1000, 0)
	want := func(cause string, ok, last bool) {
		t.Helper()
		if gotOK, gotLast := l.Allow(cause, now); gotOK != ok || gotLast != last {
			t.Errorf("%s: %v %v, want %v %v", cause, gotOK, gotLast, ok, last)
		}
	}
	want("a", true, false)
	want("a", false, false)
	for i := range quiet.Most - 2 {
		want(fmt.Sprint(i), true, false)
	}
	want("the last", true, true)
	want("one more", false, false)
	now = now.Add(quiet.Pause)
	want("one more", true, false)
	want("a", true, false)
}
