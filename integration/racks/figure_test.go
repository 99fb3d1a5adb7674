package racks

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"edeploy/integration/lab"
	"edeploy/integration/lab/labtest"
)

// TestFigureDetection is how long the agent looks at a machine with 24 disks and
// four network cards.
func TestFigureDetection(t *testing.T) {
	labtest.NeedVM(t)
	if os.Getenv("EDEPLOY_BENCH") != "1" {
		t.Skip("measures: EDEPLOY_BENCH=1 runs it (make bench)")
	}
	const bar = 5.0
	s, machines := startUpload(t), labtest.New(t)
	m := lab.Machine{Name: "full", Kernel: s.agent(t)}
	for i := range 24 {
		path := machines.Path(fmt.Sprintf("disk%d.img", i))
		if err := lab.BlankDisk(path, 64<<20); err != nil {
			t.Fatal(err)
		}
		bus := lab.MegaSAS
		if i >= 20 {
			bus = lab.NVMe
		}
		m.Disks = append(m.Disks, lab.Disk{Path: path, Bus: bus, Serial: fmt.Sprintf("FULL%02d", i)})
	}
	for range 4 {
		m.NICs = append(m.NICs, lab.NIC{User: &lab.UserNet{}})
	}
	vm := labtest.Start(t, machines, m)
	found := labtest.Expect(t, vm, 4*time.Minute, `detect: done in ([0-9.]+) s`)
	seconds, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	verdict := "ok"
	if seconds > bar {
		verdict = "short"
	}
	fmt.Printf("figure detect-24-disks-4-cards %.1f s <=%.0f %s\n", seconds, bar, verdict)
}
