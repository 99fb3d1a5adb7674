package lease_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"edeploy/pxe/internal/lease"
)

// FuzzOpen: whatever the file holds, it is read or refused; what is read is
// written in a form that is read again.
func FuzzOpen(f *testing.F) {
	f.Add("10.0.0.10 02:00:00:00:00:01 2026-11-22T13:00:00Z leased\n")
	f.Add("10.0.0.11 - 2026-11-22T13:00:00Z declined\n# comment\n\n")
	f.Add("10.0.0.12 02:00:00:00:00:02 1970-01-01T00:00:00Z released")
	f.Fuzz(func(t *testing.T, text string) {
		file := filepath.Join(t.TempDir(), "leases")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		conf := lease.Config{First: addr(10), Last: addr(20), Time: time.Hour, File: file, Now: newClock().Now}
		table, err := lease.Open(conf)
		if err != nil {
			return
		}
		if _, err := table.Lease(mac(9), addr(20)); err != nil {
			return
		}
		if err := table.Save(); err != nil {
			t.Fatal(err)
		}
		again, err := lease.Open(conf)
		if err != nil || again.Broken() != nil {
			t.Errorf("own file is refused: %v", again.Broken())
		}
	})
}
