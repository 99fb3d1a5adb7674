package catalog

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// What is known of a file is found out anew when it changes, even to a file of
// the same size and time, and after an error.
func TestKnown(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	write := func(name, text string) {
		if err := errors.Join(os.WriteFile(name, []byte(text), 0o644), os.Chtimes(name, time.Time{}, time.Unix(1000, 0))); err != nil {
			t.Fatal(err)
		}
	}
	var k known[string]
	finds := 0
	var failure error
	get := func(wantFinds int, want string) {
		t.Helper()
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		got, err := k.get(file, info, func() (string, error) {
			finds++
			text, _ := os.ReadFile(file)
			return string(text), failure
		})
		if got != want || finds != wantFinds || !errors.Is(err, failure) {
			t.Errorf("get = %q, %v after %d finds, want %q, %v after %d", got, err, finds, want, failure, wantFinds)
		}
	}
	write(file, "a")
	failure = errors.New("bad disk")
	get(1, "a")
	failure = nil
	get(2, "a")
	get(2, "a")
	write(file, "ab")
	get(3, "ab")
	write(filepath.Join(dir, "other"), "cd")
	if err := os.Rename(filepath.Join(dir, "other"), file); err != nil {
		t.Fatal(err)
	}
	get(4, "cd")
	get(4, "cd")
	if err := os.Chtimes(file, time.Time{}, time.Unix(1001, 0)); err != nil {
		t.Fatal(err)
	}
	get(5, "cd")
}
