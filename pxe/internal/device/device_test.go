package device_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"edeploy/pxe/internal/device"
)

func TestAwait(t *testing.T) {
	w := device.Watch()
	defer w.Close()
	loopback := device.Index("lo")
	if loopback == 0 {
		t.Fatal("no loopback device")
	}
	for _, test := range []struct {
		name  string
		index int
		want  string
	}{
		{"lo", loopback, ""},
		{"lo", loopback + 1, "network device lo is another one now"},
		{"no-such-dev0", 1, "network device no-such-dev0 is gone"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		err := w.Await(ctx, test.name, test.index)
		cancel()
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s %d: %v, want %q", test.name, test.index, err, test.want)
		}
	}
}
