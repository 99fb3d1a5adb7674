package appliance

import "testing"

// All connections, with what each opens, leave descriptors for files.
func TestLimits(t *testing.T) {
	for _, test := range []struct {
		descriptors uint64
		web, rsync  int
	}{
		{1 << 62, 1024, 256}, {20_000, 1024, 256}, {4096, 1024, 256}, {1024, 256, 64}, {64, 16, 4},
	} {
		web, rsync := limits(test.descriptors)
		if web != test.web || rsync != test.rsync {
			t.Errorf("limits(%d) = %d, %d, want %d, %d", test.descriptors, web, rsync, test.web, test.rsync)
		}
		if used := uint64(2*web + 4*rsync); used > test.descriptors*3/4 {
			t.Errorf("limits(%d): connections may take %d descriptors", test.descriptors, used)
		}
	}
}
