// Package needs says what a test cannot do without. A test that lacks it is
// skipped; where CI is set it fails, because a skip there would be a promise
// that nobody checks. It is the one package of its room that others import, in
// tests.
package needs

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
)

// Program needs a program; it answers its path.
func Program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	That(t, err == nil, "the program %s: `make deps` installs it", name)
	return path
}

// Programs needs all of them.
func Programs(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		Program(t, name)
	}
}

// Root needs the rights of root.
func Root(t testing.TB) {
	t.Helper()
	That(t, os.Geteuid() == 0, "root's rights")
}

// That needs anything else: the sentence is "needs ...".
func That(t testing.TB, ok bool, format string, args ...any) {
	t.Helper()
	switch {
	case ok:
	case os.Getenv("CI") != "":
		t.Fatalf("needs "+format, args...)
	default:
		t.Skipf("needs "+format, args...)
	}
}

// Seed is what a random test starts from: SEED, else another one each time. It
// is logged, so that SEED can repeat a run.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("SEED=%s is no number", text)
		}
	}
	t.Logf("SEED=%d", seed)
	return seed
}
