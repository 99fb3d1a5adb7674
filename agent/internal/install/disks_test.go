package install_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"edeploy/agent/internal/command"
	"edeploy/agent/internal/drive"
	"edeploy/server/wire"
)

// twoDisks are vda, which the script names, and vdb, which it does not.
func twoDisks() *drive.Machine {
	sys := fstest.MapFS{}
	for _, name := range []string{"vda", "vdb"} {
		sys["block/"+name+"/size"] = &fstest.MapFile{Data: []byte("6291456\n")}
		sys["block/"+name+"/serial"] = &fstest.MapFile{Data: []byte(name + "-serial\n")}
	}
	var mu sync.Mutex
	asked := map[string]int{}
	return &drive.Machine{Sys: sys, Head: func(string) error { return nil }, KernelLog: func() (string, error) { return "", nil },
		SetReadOnly: func(string, bool) error { return nil },
		Run: func(_ context.Context, c command.Command) ([]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			device := c.Argv[len(c.Argv)-1]
			asked[device]++
			return fmt.Appendf(nil, "PTTYPE=dos\nPTUUID=%s-%d\n", filepath.Base(device), asked[device]), nil
		}}
}

// The server's history has the plan of the disks, and hears what was written.
func TestDisksAreReported(t *testing.T) {
	a := newAppliance(t)
	m := newBlank(t, a, "")
	m.env.Disks = twoDisks()
	if err := m.install(t); err != nil {
		t.Fatal(err)
	}
	var notes []string
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.reports {
		if r.Status == wire.StatusNote {
			notes = append(notes, string(r.Step)+" "+r.Message)
		}
	}
	want := []string{
		"configure disk /dev/vda (no model, serial vda-serial, 3.2 GB, virtio): vda dos; the script may write to it",
		"configure disk /dev/vdb (no model, serial vdb-serial, 3.2 GB, virtio): vdb dos; read-only: no line of the script names it",
	}
	if diff := cmp.Diff(want, notes); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]wire.DiskID{"vda-2"}, a.reports[len(a.reports)-1].Disks); diff != "" {
		t.Errorf("disks of the last report (-want +got):\n%s", diff)
	}
	if line := "] configure: " + strings.TrimPrefix(want[0], "configure "); !strings.Contains(m.console.String(), line) {
		t.Errorf("the console has no line %q", line)
	}
}

// A file system that mount(8) made read-only because no line names its disk
// ends the installation: it would stay read-only in the installed system.
func TestMountedReadOnly(t *testing.T) {
	a := newAppliance(t)
	m := newBlank(t, a, "")
	m.env.Disks = twoDisks()
	table, err := os.ReadFile(m.env.MountInfo)
	a.must(err)
	a.must(os.WriteFile(m.env.MountInfo, fmt.Appendf(table, "31 30 254:17 / %s/chroot/srv ro,relatime - ext4 /dev/vdb1 ro\n", m.root), 0o600))
	err = m.install(t)
	const want = "configure: vm.configure: /dev/vdb1 is mounted read-only on /srv: no line of the script names its disk /dev/vdb (no model, serial vdb-serial, 3.2 GB, virtio)"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}
