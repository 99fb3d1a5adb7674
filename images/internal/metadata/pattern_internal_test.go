package metadata

import "testing"

func TestCovers(t *testing.T) {
	tests := []struct {
		pattern, path string
		want          bool
	}{
		{"/home/", "home/me", true},
		{"/home/", "home", false}, // a file of this name is not covered
		{"/etc/fstab", "etc/fstab", true},
		{"/etc/fstab", "etc/fstab.d/x", false},
		{"/etc/shadow*", "etc/shadow-", true},
		{"/etc/*", "etc/a/b", true},
		{"fstab", "etc/fstab", true},
		{"ssh/keys", "etc/ssh/keys/x", true},
		{"/ssh/keys", "etc/ssh/keys/x", false},
		{"- /home/", "home/me", true},
		{"+ /home/", "home/me", false},
		{"/var/**", "var/x", false}, // true, but not known here
		{"[", "[", false},
	}
	for _, tt := range tests {
		if got := covers(tt.pattern, tt.path); got != tt.want {
			t.Errorf("covers(%q, %q) = %v", tt.pattern, tt.path, got)
		}
	}
}
