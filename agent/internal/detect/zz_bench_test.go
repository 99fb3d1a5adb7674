package detect_test

import (
	"testing"

	"edeploy/agent/internal/detect"
)

func BenchmarkLive(b *testing.B) {
	for b.Loop() {
		h, err := detect.Hardware(b.Context(), nil)
		if err != nil || len(h) < 10 {
			b.Fatal(err)
		}
	}
}
