package install

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"edeploy/integration/rack"
	"edeploy/integration/rack/racktest"
)

// An installed machine is taken out of service: it boots from the network, its disk
// holds nothing any more, and it waits. The other one runs, and boots its own disk.
func TestWipe(t *testing.T) {
	long(t)
	r := racktest.Start(t)
	files := rack.VM("base", racktest.Base.Version, r.Key)
	files["vm.configure"] += rack.ByArchive
	files["state"] = "[('vm', 2)]\n"
	r.Configure(files)
	old, other := rack.Blank{Name: "old"}, rack.Blank{Name: "other"}
	vm, stays := r.Power(old), r.Power(other)
	m := r.AwaitState(vm, "installed", 12*time.Minute)
	r.AwaitState(stays, "installed", 12*time.Minute)
	r.Expect(stays, 4*time.Minute, `node\d+ login:`)
	if holds := used(t, r.Disk("old", 0)); holds < 100<<20 {
		t.Fatalf("the installed disk holds %d bytes", holds)
	}

	if _, err := r.Ctl(t.Context(), "wipe", m.ID, "--force", "nobody"); err == nil {
		t.Error("a machine is wiped by another's name")
	}
	if out, err := r.Ctl(t.Context(), "wipe", m.ID, "--force", m.DisplayName); err != nil || !strings.Contains(out, "erases its disks") {
		t.Fatalf("%s: %v", out, err)
	}
	if err := vm.Kill(); err != nil {
		t.Fatal(err)
	}
	vm = r.Power(old)
	m = r.AwaitState(vm, "wiped", 6*time.Minute)
	r.Expect(vm, 4*time.Minute, `is on hold, asking again every 10 seconds`)
	t.Log(m.Wipe.Disks)
	if err := vm.Kill(); err != nil {
		t.Fatal(err)
	}
	if holds := used(t, r.Disk("old", 0)); holds > 0 {
		t.Errorf("the disk holds %d bytes that are no zeros", holds)
	}
	if m.Allocation != nil || m.NextBoot != "hold" || !strings.Contains(r.ConfigFile("state"), "('vm', 1)") || strings.Count(r.ConfigFile("vm.cmdb"), "'used': 1") != 1 {
		t.Errorf("it keeps what it held: %+v", m)
	}

	if got := r.SSH(stays, "edeploy verify; echo exit $?"); !strings.HasSuffix(got, "exit 0\n") {
		t.Errorf("the other machine: %s", got)
	}
	if err := stays.Kill(); err != nil {
		t.Fatal(err)
	}
	r.Expect(r.Power(other), 4*time.Minute, `node\d+ login:`)
}

// used is how many bytes of a disk, of whole MiB, are not all zeros.
func used(t *testing.T, path string) (bytesUsed int64) {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for buf := make([]byte, 1<<20); ; {
		n, err := io.ReadFull(f, buf)
		if len(bytes.Trim(buf[:n], "\x00")) > 0 {
			bytesUsed += int64(n)
		}
		if err != nil {
			return bytesUsed
		}
	}
}
