package archive_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"edeploy/images/manifest"
	"edeploy/images/manifest/archive"
	"edeploy/images/manifest/fstree"
)

// BenchmarkDebianTree prints what Apply and Verify cost beside the copying
// itself: EDEPLOY_TREE names a tree that mmdebstrap made (README, "Figures").
func BenchmarkDebianTree(b *testing.B) {
	tree := os.Getenv("EDEPLOY_TREE")
	if tree == "" {
		b.Skip("EDEPLOY_TREE names no tree")
	}
	ctx := context.Background()
	m, err := fstree.Walk(ctx, tree, fstree.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("%d entries, %d bytes", len(m.Entries), m.TotalBytes())
	var text bytes.Buffer
	if _, err := m.WriteTo(&text); err != nil {
		b.Fatal(err)
	}
	took := func(unit string, work func() error) time.Duration {
		start := time.Now()
		if err := work(); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(start).Seconds(), unit)
		return time.Since(start)
	}
	for b.Loop() {
		exact, plain := b.TempDir(), b.TempDir()
		took("walk-s", func() error { _, err := fstree.Walk(ctx, tree, fstree.Options{}); return err })
		took("read-s", func() error { _, err := manifest.Read(bytes.NewReader(text.Bytes())); return err })
		aHX := took("rsync-aHX-s", func() error { return exec.Command("rsync", "-aHX", tree+"/", exact).Run() })
		agent := took("rsync-a-s", func() error { return exec.Command("rsync", "-a", tree+"/", plain).Run() })
		agent += took("apply-s", func() error { return fstree.Apply(ctx, m, plain, fstree.Options{}) })
		agent += took("verify-s", func() error {
			diffs, err := fstree.Verify(ctx, m, plain, fstree.Options{Extras: true})
			if len(diffs) > 0 {
				b.Errorf("%d differences, the first: %v", len(diffs), diffs[0])
			}
			return err
		})
		b.ReportMetric(aHX.Seconds()/agent.Seconds(), "ratio")
		var packed bytes.Buffer
		took("pack-s", func() error {
			_, err := archive.Pack(ctx, &packed, tree)
			return err
		})
		took("extract-s", func() error {
			_, err := archive.Extract(ctx, io.Reader(&packed), b.TempDir(), archive.Options{})
			return err
		})
	}
}
