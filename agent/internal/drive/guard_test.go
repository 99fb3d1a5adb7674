package drive_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"edeploy/agent/internal/drive"
	"edeploy/integration/needs"
)

// loop makes a block device of a new file.
func loop(t *testing.T) drive.Drive {
	t.Helper()
	image := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(image, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "-f", "--show", image).CombinedOutput()
	needs.That(t, err == nil, "a loop device: %s", out)
	device := strings.TrimSpace(string(out))
	t.Cleanup(func() { exec.Command("losetup", "-d", device).Run() })
	return drive.Drive{Name: filepath.Base(device), Model: "LOOP", Serial: image[len(image)-8:], SizeBytes: 1 << 20}
}

// The kernel refuses to write to a disk that is not opened, and takes it again
// from a program once it is.
func TestGuard(t *testing.T) {
	needs.Root(t)
	needs.Programs(t, "losetup", "dd")
	a, b := loop(t), loop(t)
	write := func(d drive.Drive) (string, error) {
		out, err := exec.Command("dd", "if=/dev/zero", "of="+d.Device(), "bs=4096", "count=1", "conv=fsync").CombinedOutput()
		return string(out), err
	}
	m := drive.ThisMachine(func() ([]byte, error) { return nil, nil })
	g, err := m.Guard([]drive.Drive{a, b})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Open(b); err != nil {
		t.Fatal(err)
	}
	out, err := write(a)
	if err == nil {
		t.Errorf("%s was written to", a)
	}
	if got, want := g.Explain(nil, out, ""), "no line of the script names these disks, so they are read-only while it runs: "+a.String(); got != want {
		t.Errorf("dd said %q, explained as %q, want %q", out, got, want)
	}
	if out, err := write(b); err != nil {
		t.Errorf("%s was not written to: %s", b, out)
	}
	if err := g.Lift(); err != nil {
		t.Error(err)
	}
	if out, err := write(a); err != nil {
		t.Errorf("afterwards %s was not written to: %s", a, out)
	}
}

func TestExplain(t *testing.T) {
	a := drive.Drive{Name: "sda", Model: "A", Serial: "1", SizeBytes: 8e9, Transport: "sata"}
	locked := drive.Drive{Name: "sdb", Model: "B", Serial: "2", SizeBytes: 8e9, Transport: "usb", WriteProtected: true}
	m := &drive.Machine{SetReadOnly: func(device string, _ bool) error {
		if device == locked.Device() {
			return errors.New("it was touched")
		}
		return nil
	}}
	g, err := m.Guard([]drive.Drive{a, locked})
	if err != nil {
		t.Fatal(err)
	}
	const sda, sdb = "/dev/sda (A, serial 1, 8.0 GB, sata)", "/dev/sdb (B, serial 2, 8.0 GB, usb, write-protected)"
	for _, tt := range []struct {
		name, output, log, want string
		named                   []drive.Drive
	}{
		{name: "another reason", output: "no such file", log: "sda: sda1\n"},
		{name: "a failing disk", output: "mkfs.ext4: Input/output error", log: "[ 1.2] I/O error, dev sda, sector 2048 op 0x1:(WRITE) flags 0x0\n[ 1.3] more",
			want: "the disk " + sda + " fails: I/O error, dev sda, sector 2048 op 0x1:(WRITE) flags 0x0"},
		{name: "a failing partition", log: "<3>[ 9.1] Buffer I/O error on dev sda1, logical block 0, lost async page write",
			want: "the disk " + sda + " fails: Buffer I/O error on dev sda1, logical block 0, lost async page write"},
		{name: "an older kernel", log: "blk_update_request: critical medium error, dev sda, sector 8", want: "the disk " + sda + " fails: critical medium error, dev sda, sector 8"},
		{name: "another disk's failure", log: "I/O error, dev sdaa, sector 8"},
		{name: "write-protected", output: "Error: Can't open /dev/sdb in write mode: Read-only file system", named: []drive.Drive{locked},
			want: "the disk " + sdb + " cannot be written to: it or its controller is write-protected"},
		{name: "kept", output: "dd: error writing '/dev/sda': Operation not permitted", want: "no line of the script names these disks, so they are read-only while it runs: " + sda},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := g.Explain(tt.named, tt.output, tt.log); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestWriteErrors(t *testing.T) {
	drives := []drive.Drive{{Name: "sda", Model: "A", Serial: "1"}}
	for log, lost := range map[string]bool{
		"I/O error, dev sda, sector 8 op 0x1:(WRITE) flags":                         true,
		"Buffer I/O error on dev sda1, logical block 0, lost async page write":      true,
		"I/O error, dev sda, sector 8 op 0x0:(READ) flags":                          false,
		"Buffer I/O error on dev sdb1, logical block 0, lost async page write":      false,
		"I/O error, dev sr0, sector 8 op 0x0:(READ)\nsda: written, (WRITE) is over": false,
	} {
		if err := drive.WriteErrors(drives, log); (err != nil) != lost {
			t.Errorf("%s: %v, want an error: %v", log, err, lost)
		}
	}
}

func TestSince(t *testing.T) {
	for _, tt := range [][3]string{{"a\nb\n", "a\nb\nc\n", "\nc\n"}, {"", "a\n", "a\n"}, {"a\nb\n", "x\ny\n", "x\ny\n"}} {
		if got := drive.Since(tt[0], tt[1]); got != tt[2] {
			t.Errorf("since %q in %q: %q, want %q", tt[0], tt[1], got, tt[2])
		}
	}
}

// What turns up while a script runs is the script's, unless it was plugged in.
func TestRefresh(t *testing.T) {
	s := tree{t, t.TempDir()}
	m := machineOf(s)
	closed := map[string]bool{}
	m.SetReadOnly = func(device string, on bool) error { closed[device] = on; return nil }
	s.disk("pci0000:00/0000:00:1f.2/ata1/host1/target1:0:0/1:0:0:0", "sda", "8192", nil)
	drives, err := m.Read()
	if err != nil {
		t.Fatal(err)
	}
	g, err := m.Guard(drives)
	if err != nil {
		t.Fatal(err)
	}
	s.disk("pci0000:00/0000:00:1f.2/ata2/host2/target2:0:0/2:0:0:0", "sdb", "8192", nil)
	s.disk("pci0000:00/0000:00:14.0/usb1/1-3/1-3:1.0/host9/target9:0:0/9:0:0:0", "sdc", "8192", nil)
	if err := g.Refresh(); err != nil {
		t.Fatal(err)
	}
	if !closed["/dev/sda"] || closed["/dev/sdb"] || !closed["/dev/sdc"] || len(g.Closed()) != 2 {
		t.Errorf("read-only are %v: %v", closed, g.Closed())
	}
	if err := g.Lift(); err != nil || closed["/dev/sda"] || closed["/dev/sdc"] {
		t.Errorf("after the script %v are read-only, %v", closed, err)
	}
}
