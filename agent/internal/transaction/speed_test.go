package transaction_test

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkUpgrade upgrades a tree of 8,000 files in which 1,500 become others,
// 500 go and 500 come, and goes back, on the disk of the temporary directory.
// "changing-%" is the part of the upgrade in which the tree is neither version.
func BenchmarkUpgrade(b *testing.B) {
	var disk, target []string
	for i := range 8000 {
		name := fmt.Sprintf("usr/share/doc/package%d/file%d=", i/50, i)
		switch {
		case i%16 < 3:
			disk, target = append(disk, name+"1;big"), append(target, fmt.Sprint(name, i, ";big"))
		case i%16 == 3:
			disk = append(disk, name+"1")
		case i%16 == 4:
			target = append(target, name+"1")
		default:
			disk, target = append(disk, name+"1"), append(target, name+"1")
		}
	}
	l := newLabIn(b, b.TempDir(), b.TempDir(), disk, target)
	var changing, total time.Duration
	for b.Loop() {
		result, err := l.machine.Upgrade(b.Context(), l.upgrade(b, "", ""))
		must(b, err)
		changing += result.Changing
		total += result.Total
		_, err = l.machine.Rollback(b.Context())
		must(b, err)
	}
	b.ReportMetric(100*changing.Seconds()/total.Seconds(), "changing-%")
	b.ReportMetric(changing.Seconds()/float64(b.N), "changing-s")
	b.ReportMetric(total.Seconds()/float64(b.N), "upgrade-s")
}
