package lab_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"edeploy/integration/lab"
	"edeploy/integration/needs"
)

func TestChooseAccel(t *testing.T) {
	works := func() error { return nil }
	hangs := func() error { return errors.New("the guest did not come to its end") }
	never := func() error { t.Error("probed although forced"); return nil }
	tests := []struct {
		forced string
		probe  func() error
		want   lab.Accelerator
		err    bool
	}{
		{"", works, lab.KVM, false},
		{"", hangs, lab.TCG, false},
		{"kvm", never, lab.KVM, false},
		{"tcg", never, lab.TCG, false},
		{"xen", never, "", true},
	}
	for _, test := range tests {
		got, err := lab.ChooseAccel(test.forced, test.probe)
		if got != test.want || (err != nil) != test.err {
			t.Errorf("forced %q: %q, %v; want %q", test.forced, got, err, test.want)
		}
	}
}

func TestScale(t *testing.T) {
	tests := []struct {
		accel  lab.Accelerator
		factor string
		want   time.Duration
	}{
		{lab.KVM, "", 10 * time.Second},
		{lab.TCG, "", 40 * time.Second},
		{lab.TCG, "2.5", 100 * time.Second},
		{lab.KVM, "0", 10 * time.Second},
		{lab.KVM, "much", 10 * time.Second},
	}
	for _, test := range tests {
		if got := lab.Scale(10*time.Second, test.accel, test.factor); got != test.want {
			t.Errorf("%s with factor %q: %v, want %v", test.accel, test.factor, got, test.want)
		}
	}
}

func TestTimeline(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	tl := lab.NewTimeline(func() time.Time { now = now.Add(1500 * time.Millisecond); return now })
	began := now
	end := tl.Begin("m1", "transfer")
	tl.Begin("m2", "boot")
	end()
	end()
	tl.Add("m1", "detect", began, began.Add(time.Second))
	var table bytes.Buffer
	if err := tl.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	want := `MACHINE  STEP      START  SECONDS
m1       detect    0.0    1.0
m1       transfer  1.5    3.0
m2       boot      3.0    running
`
	if diff := cmp.Diff(want, table.String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

func TestLabWithoutMachines(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), strings.Repeat("long", 20)))
	dir := filepath.Join(t.TempDir(), "lab")
	l, err := lab.New(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Hub("../rack"); err == nil {
		t.Error("a hub writes outside the lab's directory")
	}
	for _, want := range []string{"rack.pcap", "rack-2.pcap"} {
		h, err := l.Hub("rack")
		if err != nil {
			t.Fatal(err)
		}
		h.Port("m1.eth0").Cut()
		if _, err := os.Stat(l.Path(want)); err != nil {
			t.Error(err)
		}
	}
	l.Timeline.Begin("m1", "boot")
	var report bytes.Buffer
	l.Report(&report)
	for _, want := range []string{"0 of 0 machines are running", dir, "port m1.eth0: sent 0", "CUT", "boot"} {
		if !strings.Contains(report.String(), want) {
			t.Errorf("the report does not hold %q:\n%s", want, &report)
		}
	}
	for range 2 {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := l.Hub("late"); err == nil {
		t.Error("a closed lab makes hubs")
	}
}

func TestMissingToolNamesItsPackage(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := lab.Overlay("base", filepath.Join(t.TempDir(), "o.qcow2"))
	if err == nil || !strings.Contains(err.Error(), "apt-get install qemu-utils") {
		t.Errorf("got %v", err)
	}
}

// run runs a program that a test needs.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(needs.Program(t, name), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

// installedDisk is a raw disk with two partitions; the second has ext4 on it.
func installedDisk(t *testing.T, label string) string {
	t.Helper()
	dir, disk := t.TempDir(), filepath.Join(t.TempDir(), "disk.raw")
	tree := map[string]string{"etc/hostname": "host03\n", "var/empty": "", "usr/lib/name with blank": "x"}
	for name, content := range tree {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	links := map[string]string{"etc/absolute": "/etc/hostname", "etc/relative": "../etc/absolute", "lib": "usr/lib", "loop": "loop"}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := lab.BlankDisk(disk, 64<<20); err != nil {
		t.Fatal(err)
	}
	run(t, "parted", "-s", disk, "mklabel", label, "mkpart", "primary", "1MiB", "3MiB", "mkpart", "primary", "3MiB", "100%")
	run(t, "mkfs.ext4", "-q", "-d", dir, "-E", "offset=3145728", disk, "40M")
	return disk
}

func TestReadFile(t *testing.T) {
	needs.Program(t, "qemu-img")
	for _, label := range []string{"msdos", "gpt"} {
		t.Run(label, func(t *testing.T) {
			disk := installedDisk(t, label)
			overlay := filepath.Join(t.TempDir(), "m1.qcow2")
			if err := lab.Overlay(disk, overlay); err != nil {
				t.Fatal(err)
			}
			tests := []struct{ disk, name, want string }{
				{disk, "/etc/hostname", "host03\n"},
				{disk, "etc/relative", "host03\n"},
				{disk, "/lib/name with blank", "x"},
				{disk, "/var/empty", ""},
				{overlay, "/etc/absolute", "host03\n"},
			}
			for _, test := range tests {
				got, err := lab.ReadFile(test.disk, 2, test.name)
				if err != nil || string(got) != test.want {
					t.Errorf("%s: %q, %v; want %q", test.name, got, err, test.want)
				}
			}
		})
	}
}

func TestReadFileThatIsNotThere(t *testing.T) {
	disk := installedDisk(t, "msdos")
	tests := []struct {
		partition int
		name      string
		missing   bool
	}{
		{2, "/etc/nothing", true},
		{2, "/loop", false},
		{2, "/a\"b", false},
		{3, "/etc/hostname", true},
		{1, "/etc/hostname", false}, // no file system
		{0, "/etc/hostname", false},
	}
	for _, test := range tests {
		got, err := lab.ReadFile(disk, test.partition, test.name)
		if err == nil || errors.Is(err, fs.ErrNotExist) != test.missing {
			t.Errorf("partition %d, %s: %q, %v; fs.ErrNotExist wanted: %v", test.partition, test.name, got, err, test.missing)
		}
	}
	if _, err := lab.ReadFile(disk+".none", 1, "/x"); err == nil {
		t.Error("a disk that is not there is read")
	}
}

func TestOverlayNames(t *testing.T) {
	if err := lab.Overlay("base", "overlay.raw"); err == nil || !strings.Contains(err.Error(), ".qcow2") {
		t.Errorf("got %v", err)
	}
}
