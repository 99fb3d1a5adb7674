package wipe_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"edeploy/agent/internal/command"
	"edeploy/agent/internal/drive"
	"edeploy/agent/internal/wipe"
	"edeploy/server/wire"
)

const size = 5<<20 + 512 // not a multiple of a block: the last sector counts, too

// fake is a disk in memory; a function that is there is asked instead.
type fake struct {
	mu    sync.Mutex
	data  []byte
	read  func(at int64) error
	write func(at int64) (skip bool, err error)
}

// full is a disk full of data.
func full(n int) *fake {
	f := &fake{data: make([]byte, n)}
	_, _ = rand.NewChaCha8([32]byte{1}).Read(f.data) // it does not fail
	return f
}

func (f *fake) ReadAt(p []byte, at int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.read != nil {
		if err := f.read(at); err != nil {
			return 0, err
		}
	}
	return copy(p, f.data[at:]), nil
}

func (f *fake) WriteAt(p []byte, at int64) (int, error) {
	if f.write != nil {
		if skip, err := f.write(at); skip || err != nil {
			return len(p), err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return copy(f.data[at:], p), nil
}

func (f *fake) Sync() error  { return nil }
func (f *fake) Close() error { return nil }

func (f *fake) fill(b byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	copy(f.data, bytes.Repeat([]byte{b}, len(f.data)))
}

// bench is a machine with fake disks; run answers the programs.
type bench struct {
	disks map[string]*fake
	run   func(ctx context.Context, text string) ([]byte, error)
	every time.Duration

	mu    sync.Mutex
	asked []string // programs
	notes []string
	far   int64
}

var errNoProgram = errors.New("no such program")

func (b *bench) erase(ctx context.Context, drives ...drive.Drive) []wire.WipedDisk {
	host := wipe.Host{Every: cmp.Or(b.every, time.Millisecond),
		Open: func(device string) (wipe.Disk, error) {
			if d := b.disks[filepath.Base(device)]; d != nil {
				return d, nil
			}
			return nil, fmt.Errorf("open %s: %w", device, os.ErrNotExist)
		},
		Run: func(ctx context.Context, c command.Command) ([]byte, error) {
			b.mu.Lock()
			b.asked = append(b.asked, c.String())
			b.mu.Unlock()
			if b.run == nil {
				return nil, errNoProgram
			}
			return b.run(ctx, c.String())
		},
		Note:     func(text string) { b.mu.Lock(); b.notes = append(b.notes, text); b.mu.Unlock() },
		Progress: func(bytes int64) { b.mu.Lock(); b.far = max(b.far, bytes); b.mu.Unlock() },
	}
	return host.Erase(ctx, drives)
}

func sata(name string) drive.Drive {
	return drive.Drive{Name: name, Model: "ACME", Serial: "S" + name, Transport: "sata", SizeBytes: size}
}

// TestErase: a disk is erased by the first method whose result stands the proof.
func TestErase(t *testing.T) {
	nvme := drive.Drive{Name: "nvme0n1", Transport: "nvme", SizeBytes: size, Discards: true}
	for _, tt := range []struct {
		name   string
		drive  drive.Drive
		disk   func(*fake)
		run    func(d *fake, text string) ([]byte, error)
		method string
		err    string // "": it is erased
	}{
		{name: "zeros", drive: sata("sda"), method: "zeros"},
		{name: "a disk that lies", drive: sata("sda"), disk: func(d *fake) { d.write = func(int64) (bool, error) { return true, nil } }, method: "zeros",
			err: "still hold what was there before, the first at byte 0"},
		{name: "one that lies at its end alone", drive: sata("sda"), disk: func(d *fake) { d.write = func(at int64) (bool, error) { return at > size-1<<20, nil } }, method: "zeros",
			err: fmt.Sprint("hold something else than zeros or ones, the first at byte ", size-4096)},
		{name: "one that breaks", drive: sata("sda"), disk: func(d *fake) {
			d.write = func(at int64) (bool, error) {
				if at >= 2<<20 {
					return false, errors.New("input/output error")
				}
				return false, nil
			}
		}, method: "zeros", err: "zeros: at byte 2097152: input/output error"},
		{name: "one that cannot be read back", drive: sata("sda"), disk: func(d *fake) {
			reads := 0
			d.read = func(int64) error {
				if reads++; reads > 1400 {
					return errors.New("input/output error")
				}
				return nil
			}
		}, method: "zeros", err: "cannot be read back: input/output error"},
		{name: "one that could not be read before", drive: sata("sda"), disk: func(d *fake) {
			d.read = func(int64) error {
				if d.data[0] != 0 {
					return errors.New("it is locked")
				}
				return nil
			}
		}, method: "zeros"},
		{name: "a blank one", drive: sata("sda"), disk: func(d *fake) { copy(d.data, make([]byte, size)) }, method: "zeros"},
		{name: "write-protected", drive: drive.Drive{Name: "sda", SizeBytes: size, WriteProtected: true}, err: "write-protected"},
		{name: "without a size", drive: drive.Drive{Name: "sda"}, err: "its size is 0"},
		{name: "one that is gone", drive: sata("sdz"), err: "file does not exist"},

		{name: "discard", drive: drive.Drive{Name: "sda", Transport: "virtio", SizeBytes: size, Discards: true}, run: func(d *fake, text string) ([]byte, error) {
			d.fill(0)
			return nil, nil
		}, method: "discard"},
		{name: "a discard that reads ones", drive: drive.Drive{Name: "sda", Transport: "scsi", SizeBytes: size, Discards: true}, run: func(d *fake, text string) ([]byte, error) {
			d.fill(0xff)
			return nil, nil
		}, method: "discard"},
		{name: "a discard that does nothing", drive: drive.Drive{Name: "sda", Transport: "virtio", SizeBytes: size, Discards: true}, run: func(*fake, string) ([]byte, error) { return nil, nil }, method: "zeros"},
		{name: "a discard of an eMMC", drive: drive.Drive{Name: "mmcblk0", Transport: "mmc", SizeBytes: size, Discards: true}, run: func(d *fake, text string) ([]byte, error) {
			if !strings.Contains(text, "--secure") {
				return nil, errNoProgram
			}
			d.fill(0)
			return nil, nil
		}, method: "secure discard"},

		{name: "NVMe sanitize", drive: nvme, run: drives(identify(0x02, 0x02), "nvme sanitize --sanact=2 /dev/nvme0n1", "\x00\x00\x00\x00", "\x00\x10\x02\x00", "\xff\xff\x01\x00"), method: "NVMe sanitize"},
		{name: "NVMe sanitize, which fails", drive: nvme, run: drives(identify(0x02, 0x02), "nvme format --ses=1 --force --timeout=600262 /dev/nvme0n1", "\x00\x00\x03\x00"), method: "NVMe format"},
		{name: "NVMe format", drive: nvme, run: drives(identify(0x02, 0), "nvme format --ses=1 --force --timeout=600262 /dev/nvme0n1"), method: "NVMe format"},
		{name: "an NVMe controller that can nothing", drive: nvme, run: drives(identify(0, 0), "blkdiscard --force /dev/nvme0n1"), method: "discard"},
		{name: "NVMe without its program", drive: nvme, method: "zeros"},

		{name: "ATA sanitize", drive: sata("sda"), run: drives([]byte(ssd), "hdparm --yes-i-know-what-i-am-doing --sanitize-block-erase /dev/sda", "SD0 Sanitize Idle", "SD2 \nProgress: 0x1 (25%)", "SD0 "), method: "ATA sanitize"},
		{name: "ATA sanitize, under way since a power cut", drive: sata("sda"), run: drives([]byte(ssd), "hdparm --sanitize-status /dev/sda", "SD2 \nProgress: 0x1 (25%)", "SD0 "), method: "ATA sanitize"},
		{name: "ATA sanitize of a spinning disk", drive: func() drive.Drive { d := sata("sda"); d.Rotational = true; return d }(),
			run: drives([]byte(disk), "hdparm --yes-i-know-what-i-am-doing --sanitize-overwrite-passes 1 --sanitize-overwrite hex:00000000 /dev/sda", "SD0 "), method: "ATA sanitize"},
		{name: "ATA secure erase", drive: sata("sda"), run: drives([]byte("\n"+openSecurity), "hdparm --user-master user --security-erase edeploy /dev/sda"), method: "ATA secure erase"},
		{name: "a SAS disk", drive: drive.Drive{Name: "sda", Transport: "sas", SizeBytes: size}, method: "zeros"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := full(size)
			if tt.disk == nil {
				tt.disk = func(*fake) {}
			}
			tt.disk(d)
			b := &bench{disks: map[string]*fake{tt.drive.Name: d}}
			if tt.drive.Name == "sdz" {
				b.disks = nil
			}
			if tt.run != nil {
				b.run = func(_ context.Context, text string) ([]byte, error) { return tt.run(d, text) }
			}
			got := b.erase(t.Context(), tt.drive)[0]
			if got.Method != tt.method || (got.Error == "") != (tt.err == "") || !strings.Contains(got.Error, tt.err) {
				t.Errorf("%+v, want method %q, error %q\nprograms: %s", got, tt.method, tt.err, strings.Join(b.asked, "\n"))
			}
			if tt.err == "" && (got.Samples < 1000 || tt.disk != nil && got.Name != tt.drive.Name || b.far != size) {
				t.Errorf("%+v, %d bytes", got, b.far)
			}
			if last := b.notes[len(b.notes)-1]; last != "disk "+got.String() {
				t.Errorf("the last note is %q", last)
			}
		})
	}
}

// drives plays nvme and hdparm: what the drive can, and how it is doing, in turn.
// The command that erases it is erases.
func drives(can []byte, erases string, states ...string) func(*fake, string) ([]byte, error) {
	return func(d *fake, text string) ([]byte, error) {
		if text == erases {
			d.fill(0)
		}
		switch {
		case strings.Contains(text, "id-ctrl"), strings.Contains(text, "hdparm -I"):
			return can, nil
		case strings.Contains(text, "sanitize-log"), strings.Contains(text, "sanitize-status"):
			state := states[0]
			if len(states) > 1 {
				states = states[1:]
			}
			return []byte(state), nil
		}
		return nil, nil
	}
}

// TestHeld: the proof says how many of its samples held data.
func TestHeld(t *testing.T) {
	d := full(size)
	copy(d.data[1<<20:], make([]byte, 3<<20)) // the middle is empty
	b := &bench{disks: map[string]*fake{"sda": d}}
	got := b.erase(t.Context(), sata("sda"))[0]
	if got.Error != "" || got.Held < 2*256 || got.Held > got.Samples-300 {
		t.Errorf("%+v", got)
	}
	if !bytes.Equal(d.data, make([]byte, size)) {
		t.Error("it is not erased")
	}
}

// TestSecureErase: a password is set, and gone whatever happens.
func TestSecureErase(t *testing.T) {
	enabled := strings.Replace(openSecurity, "not	enabled", "	enabled", 1)
	const by = "hdparm --user-master user --security-"
	for _, tt := range []struct {
		name, said string
		fails      string
		want       []string
	}{
		{"good", openSecurity, "", []string{by + "set-pass edeploy /dev/sda", by + "erase edeploy /dev/sda"}},
		{"no password", openSecurity, "set-pass", []string{by + "set-pass edeploy /dev/sda"}},
		{"it fails", openSecurity, "erase", []string{by + "set-pass edeploy /dev/sda", by + "erase edeploy /dev/sda", by + "disable edeploy /dev/sda"}},
		{"after a power cut", enabled, "", []string{by + "erase edeploy /dev/sda"}},
		{"another password", enabled, "erase", []string{by + "erase edeploy /dev/sda"}},
	} {
		d := full(size)
		b := &bench{disks: map[string]*fake{"sda": d}}
		b.run = func(_ context.Context, text string) ([]byte, error) {
			if tt.fails != "" && strings.Contains(text, "security-"+tt.fails) {
				return nil, errors.New("exit status 5")
			}
			return drives([]byte("\n"+tt.said), by+"erase edeploy /dev/sda")(d, text)
		}
		got := b.erase(t.Context(), sata("sda"))[0]
		if diff := gocmp.Diff(tt.want, b.asked[1:]); diff != "" || got.Error != "" || (got.Method == "zeros") != (tt.fails != "") {
			t.Errorf("%s: %+v, programs (-want +got):\n%s", tt.name, got, diff)
		}
	}
}

// TestTogether: one disk that fails keeps nobody from the others.
func TestTogether(t *testing.T) {
	b := &bench{disks: map[string]*fake{"sda": full(size), "sdb": full(size), "sdc": full(size)}}
	b.disks["sdb"].write = func(int64) (bool, error) { return false, errors.New("input/output error") }
	got := b.erase(t.Context(), sata("sda"), sata("sdb"), sata("sdc"))
	if len(got) != 3 || got[0].Error != "" || got[1].Error == "" || got[2].Error != "" || b.far != 3*size {
		t.Errorf("%+v, %d bytes", got, b.far)
	}
	const want = "1 of 3 disks are not erased: sdb: zeros: at byte 0: input/output error"
	if err := wipe.Failed(got); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if err := wipe.Failed(got[:1]); err != nil {
		t.Error(err)
	}
	if wipe.Failed(nil) == nil {
		t.Error("a machine without disks is erased")
	}
}

// TestNameSpaces: what erases one name space of an NVMe controller may erase the
// others: they are looked at before, and come one after the other.
func TestNameSpaces(t *testing.T) {
	b := &bench{disks: map[string]*fake{"nvme0n1": full(size), "nvme0n2": full(size), "nvme1n1": full(size)}}
	var mu sync.Mutex
	busy := map[string]bool{}
	b.run = func(_ context.Context, text string) ([]byte, error) {
		if strings.Contains(text, "id-ctrl") {
			return identify(0x02, 0), nil
		}
		at := strings.Index(text, "/dev/nvme") + len("/dev/nvme")
		c := text[at : at+1]
		mu.Lock()
		if busy[c] {
			t.Errorf("two at once: %s", text)
		}
		busy[c] = true
		mu.Unlock()
		for name, d := range b.disks {
			if strings.HasPrefix(name, "nvme"+c) {
				d.fill(0)
			}
		}
		mu.Lock()
		busy[c] = false
		mu.Unlock()
		return nil, nil
	}
	var all []drive.Drive
	for _, name := range []string{"nvme0n1", "nvme0n2", "nvme1n1"} {
		all = append(all, drive.Drive{Name: name, Transport: "nvme", SizeBytes: size})
	}
	for _, got := range b.erase(t.Context(), all...) {
		if got.Error != "" || got.Held != got.Samples {
			t.Errorf("%+v", got)
		}
	}
}

// TestHangs: what never comes back costs its time, and the disk.
func TestHangs(t *testing.T) {
	const never = 1000 * time.Hour
	synctest.Test(t, func(t *testing.T) {
		b := &bench{every: time.Minute, disks: map[string]*fake{"nvme0n1": full(size), "sda": full(size), "sdb": full(size)}}
		b.run = func(context.Context, string) ([]byte, error) { time.Sleep(never); return nil, nil }
		b.disks["sda"].write = func(int64) (bool, error) { time.Sleep(never); return true, nil }
		b.disks["sdb"].read = func(int64) error { time.Sleep(never); return nil }
		start := time.Now()
		got := b.erase(t.Context(), drive.Drive{Name: "nvme0n1", Transport: "nvme", SizeBytes: size}, drive.Drive{Name: "sda", SizeBytes: size}, drive.Drive{Name: "sdb", SizeBytes: size})
		if got[0].Error != "" || got[0].Method != "zeros" || !strings.Contains(got[1].Error, "the disk hangs") || !strings.Contains(got[2].Error, "the disk hangs") {
			t.Errorf("%+v", got)
		}
		if took := time.Since(start); took > time.Hour {
			t.Errorf("it took %s", took)
		}
		time.Sleep(2 * never) // until all are back
	})
}

// TestEnded: what ends the agent ends the erasing.
func TestEnded(t *testing.T) {
	b := &bench{disks: map[string]*fake{"sda": full(size)}}
	ctx, cancel := context.WithCancelCause(t.Context())
	b.disks["sda"].write = func(int64) (bool, error) { cancel(errors.New("the power button")); return false, nil }
	if got := b.erase(ctx, sata("sda")); !strings.Contains(got[0].Error, "the power button") {
		t.Errorf("%+v", got)
	}
}

// TestChoose: what is erased, and what is not.
func TestChoose(t *testing.T) {
	targets, left := wipe.Choose([]drive.Drive{
		{Name: "sda", SizeBytes: 1e9, Transport: "sata"}, {Name: "sdb", SizeBytes: 1e9, Transport: "usb", Removable: true},
		{Name: "sdc", SizeBytes: 1e9, Transport: "scsi", Remote: true}, {Name: "sdd", SizeBytes: 1e9, WriteProtected: true}, {Name: "sde"}})
	var names []string
	for _, d := range targets {
		names = append(names, d.Name)
	}
	if diff := gocmp.Diff([]string{"sda", "sdd", "sde"}, names); diff != "" { // the last two fail
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(left) != 2 || !strings.Contains(left[0], "/dev/sdb") || !strings.Contains(left[0], "it is removable") || !strings.Contains(left[1], "other machines may use it") {
		t.Errorf("%q", left)
	}
}

// TestPlaces: both ends are read whole, and the rest here and there.
func TestPlaces(t *testing.T) {
	for _, tt := range []struct{ size, want, last int64 }{
		{4e12, 1512, 4e12 - 4096}, {size, 0, size - 4096}, {64 << 10, 16, 60 << 10}, {4096, 1, 0}, {4095, 0, 0}, {0, 0, 0},
	} {
		n := int64(0)
		got := wipe.Places(tt.size, func(most int64) int64 { n = (n + 7919*1_000_003) % most; return n })
		if tt.want > 0 && int64(len(got)) != tt.want || len(got) > 0 && (got[0] != 0 || got[len(got)-1] != tt.last) {
			t.Errorf("%d bytes: %d places to %v", tt.size, len(got), got[max(0, len(got)-1):])
		}
	}
}

// TestLimit: the largest disks have days, and no disk has forever.
func TestLimit(t *testing.T) {
	if got := wipe.Limit(20e12); got < 11*24*time.Hour || got > 12*24*time.Hour {
		t.Errorf("20 TB: %s", got)
	}
	if got := wipe.Limit(0); got != 10*time.Minute {
		t.Errorf("nothing: %s", got)
	}
}
