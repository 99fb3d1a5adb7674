package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestFigureGroups is hw groups over 20,000 descriptions of 400 facts, a
// quarter of them measured, of 4 products with 8 groups each: its time, and the
// largest memory of the process.
func TestFigureGroups(t *testing.T) {
	if os.Getenv("EDEPLOY_BENCH") != "1" {
		t.Skip("measures: EDEPLOY_BENCH=1 runs it (make bench)")
	}
	const machines = 20000
	dir := t.TempDir()
	for i := range machines {
		describe(t, filepath.Join(dir, fmt.Sprintf("m%05d.hw", i)), i)
	}
	start := time.Now()
	out, _ := ask(t, 0, "hw", "groups", dir)
	took := time.Since(start)
	if n := strings.Count(out, " alike: "); n != 32 {
		t.Errorf("%d groups, want 32", n)
	}
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	figure("hw-groups-20000", took.Seconds(), "s", 30)
	figure("hw-groups-20000-memory", float64(usage.Maxrss)/1024, "MB", 1024)
}

// figure prints a figure whose bar is an upper one.
func figure(name string, value float64, unit string, bar float64) {
	verdict := "ok"
	if value > bar {
		verdict = "short"
	}
	fmt.Printf("figure %s %.1f %s <=%.0f %s\n", name, value, unit, bar, verdict)
}

// describe writes the description of the i-th machine.
func describe(t *testing.T, path string, i int) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriter(f)
	fmt.Fprintf(w, "[('system', 'product', 'name', 'Node %d'),\n ('system', 'product', 'serial', 'S%d')", i%4, i)
	for n := range 398 {
		switch n % 4 {
		case 0:
			fmt.Fprintf(w, ",\n ('disk', 'sd%d', 'randread_4k_KBps', '%d')", n, 7919*i%100003)
		case 1:
			fmt.Fprintf(w, ",\n ('network', 'eth%d', 'serial', '02:00:00:%02x:%02x:%02x')", n, i>>8, i&255, n&255)
		case 2:
			fmt.Fprintf(w, ",\n ('disk', 'sd%d', 'size', '%d')", n, 400+i/4%8)
		default:
			fmt.Fprintf(w, ",\n ('cpu', 'physical_%d', 'flags', 'fpu vme de pse tsc msr pae mce cx8 apic')", n)
		}
	}
	fmt.Fprint(w, "]\n")
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
