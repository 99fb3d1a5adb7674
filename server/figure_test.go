package server_test

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"
)

// TestFigureUpload is one upload of a new machine against 200 profiles of 20
// lines, none but the last fitting: the median of 50.
func TestFigureUpload(t *testing.T) {
	if os.Getenv("EDEPLOY_BENCH") != "1" {
		t.Skip("measures: EDEPLOY_BENCH=1 runs it (make bench)")
	}
	const bar = 20.0
	l := newLab(t, benchFiles())
	l.mustGet(benchHardware(0))
	var took []time.Duration
	for n := range 50 {
		start := time.Now()
		if a := l.upload(benchHardware(n + 1)); a.status != http.StatusOK {
			t.Fatal(a.body)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	median := float64(took[len(took)/2].Microseconds()) / 1000
	verdict := "ok"
	if median >= bar {
		verdict = "short"
	}
	fmt.Printf("figure upload-200-profiles %.1f ms <%.0f %s\n", median, bar, verdict)
}
