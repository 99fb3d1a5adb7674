package drive_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edeploy/agent/internal/drive"
	"edeploy/integration/needs"
)

func yes() *bool { v := true; return &v }
func no() *bool  { return new(bool) }

// five are the disks of a rack server, a stick among them.
var five = []drive.Drive{
	{Name: "sda", Place: "pci-0000:00:1f.2-ata-10", Model: "STICK", Serial: "U1", Transport: "usb", SizeBytes: 16e9, Removable: true},
	{Name: "sdb", Place: "pci-0000:00:1f.2-ata-2", Model: "SSD 240", Serial: "B", WWN: "naa.500a", IDs: []string{"wwn-0x500a"}, Transport: "sata", SizeBytes: 240e9},
	{Name: "sdc", Place: "pci-0000:00:1f.2-ata-1", Model: "SSD 240", Serial: "C", Transport: "sata", SizeBytes: 240e9},
	{Name: "sdd", Place: "pci-0000:00:1f.2-ata-3", Model: "HDD 4T", Serial: "D", Transport: "sata", SizeBytes: 4e12, Rotational: true},
	{Name: "nvme0n1", Place: "pci-0000:04:00.0-nvme-1", Model: "Fast", Serial: "E", Transport: "nvme", SizeBytes: 960e9},
	{Name: "sde", Place: "pci-0000:00:1f.2-ata-4", Model: "LOCKED", Serial: "F", Transport: "sata", SizeBytes: 8e9, WriteProtected: true},
}

func TestChoose(t *testing.T) {
	twins := append(slices.Clone(five), drive.Drive{Name: "sdf", Place: "pci-0000:05:00.0-ata-1", Model: "SSD 240", Serial: "B", IDs: []string{"wwn-0x500a"}, Transport: "sata", SizeBytes: 1e9})
	const sdb, sdc, stick = "/dev/sdb (SSD 240, serial B, 240.0 GB, sata)", "/dev/sdc (SSD 240, serial C, 240.0 GB, sata)", "/dev/sda (STICK, serial U1, 16.0 GB, usb, removable)"
	const sdf = "/dev/sdf (SSD 240, serial B, 1.0 GB, sata)"
	for _, tt := range []struct {
		name string
		wish drive.Wish
		all  []drive.Drive
		want string // names, or the error
	}{
		{"the two smallest SSDs", drive.Wish{Count: 2, Rotational: no(), Removable: no(), Order: drive.BySize}, five, "sdc sdb"},
		{"by place", drive.Wish{Count: 2, Transports: []string{"sata"}, Order: drive.ByPlace}, five, "sdc sdb"},
		{"the largest", drive.Wish{Count: 1, Order: drive.BySizeUp}, five, "sdd"},
		{"all that fit", drive.Wish{Transports: []string{"sata", "nvme"}, SizeMin: 100e9}, five, "sdc sdb sdd nvme0n1"},
		{"by serial number", drive.Wish{Serials: []string{"C"}}, five, "sdc"},
		{"by several", drive.Wish{Count: 2, Serials: []string{"D", "C"}}, five, "sdc sdd"},
		{"by WWN", drive.Wish{WWNs: []string{"0x500A"}}, five, "sdb"},
		{"by id", drive.Wish{IDs: []string{"/dev/disk/by-id/wwn-0x500a"}}, five, "sdb"},
		{"by path", drive.Wish{Places: []string{"pci-0000:00:1f.2-ata-[12]"}}, five, "sdc sdb"},
		{"by model", drive.Wish{Models: []string{"HDD*"}}, five, "sdd"},
		{"a stick when it is meant", drive.Wish{Removable: yes()}, five, "sda"},
		{"in a range", drive.Wish{SizeMin: 900e9, SizeMax: 1e12}, five, "nvme0n1"},

		{"a tie at the border", drive.Wish{Count: 1, Transports: []string{"sata"}, Removable: no(), Order: drive.BySize}, five,
			`1 disks are wanted by order="size", and nothing says which of these 2 is one of them: ` + sdc + ", " + sdb},
		{"more than wanted, without an order", drive.Wish{Count: 1, Models: []string{"SSD*"}}, five,
			"1 disks are wanted, and 2 fit: say more, or order='size', '-size' or 'path': " + sdc + ", " + sdb},
		{"too few", drive.Wish{Count: 2, Removable: yes()}, five[:2], "2 disks are wanted, and only 1 fit: " + stick + "; there are: " + stick + ", " + sdb},
		{"none", drive.Wish{Models: []string{"x"}}, five[1:2], "no disk fits; there are: " + sdb},
		{"none at all", drive.Wish{}, nil, "no disk fits; there are: none"},
		{"the write-protected one", drive.Wish{Serials: []string{"F"}}, five[5:], "no disk fits; there are: /dev/sde (LOCKED, serial F, 8.0 GB, sata, write-protected)"},
		{"twins by serial number", drive.Wish{Count: 1, Serials: []string{"B"}, Order: drive.BySize}, twins, "two disks have the serial number B: " + sdb + ", " + sdf},
		{"twins by id", drive.Wish{IDs: []string{"wwn-0x500a"}}, twins, "two disks have the id wwn-0x500a: " + sdb + ", " + sdf},
		{"a transport that is none", drive.Wish{Transports: []string{"scsi3"}}, five, `transport "scsi3": want one of sata, sas, scsi, nvme, virtio, usb, mmc`},
		{"an order that is none", drive.Wish{Order: "name"}, five, `order "name": want 'size', '-size' or 'path'`},
		{"a pattern that is none", drive.Wish{Models: []string{"["}}, five, `pattern "[": syntax error in pattern`},
		{"a negative count", drive.Wish{Count: -1}, five, "count -1: want a number of disks"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.wish.Choose(tt.all)
			if diff := cmp.Diff(tt.want, outcome(got, err)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func outcome(drives []drive.Drive, err error) string {
	if err != nil {
		return err.Error()
	}
	var names []string
	for _, d := range drives {
		names = append(names, d.Name)
	}
	return strings.Join(names, " ")
}

// TestChooseAnyOrder: whatever the kernel calls the disks and in whatever order it
// finds them, a wish gets the same disks or is refused; a disk that was left out
// is never as good as one that was taken; what is taken fits.
func TestChooseAnyOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(needs.Seed(t), 0))
	refused, granted := 0, 0
	for range 5_000 {
		all := layout(random)
		wish := randomWish(random)
		got, err := wish.Choose(all)
		again, againErr := wish.Choose(renamed(random, all))
		if (err == nil) != (againErr == nil) || err == nil && !slices.Equal(serials(got), serials(again)) {
			t.Fatalf("%+v of %v: %v, %v; after a restart %v, %v", wish, all, got, err, again, againErr)
		}
		if err != nil {
			refused++
			continue
		}
		granted++
		if wish.Count > 0 && len(got) != wish.Count {
			t.Fatalf("%+v got %v", wish, got)
		}
		for _, d := range got {
			if d.WriteProtected || wish.Removable != nil && d.Removable != *wish.Removable || d.SizeBytes < wish.SizeMin {
				t.Fatalf("%+v got %v", wish, d)
			}
		}
		others := slices.DeleteFunc(slices.Clone(all), func(d drive.Drive) bool { return slices.Contains(serials(got), d.Serial) })
		for _, other := range others {
			// Instead of the last one: the other alone must be refused, or not fit, or be worse.
			if _, err := (drive.Wish{Count: 1, Rotational: wish.Rotational, Removable: wish.Removable, SizeMin: wish.SizeMin, Transports: wish.Transports}).Choose([]drive.Drive{other}); err == nil {
				last := got[len(got)-1]
				if wish.Order == drive.BySize && other.SizeBytes <= last.SizeBytes || wish.Order == drive.BySizeUp && other.SizeBytes >= last.SizeBytes || wish.Order == drive.Unordered {
					t.Fatalf("%+v got %v, and %v is as good", wish, got, other)
				}
			}
		}
	}
	if refused < 500 || granted < 500 {
		t.Errorf("%d refused, %d granted: the test says little", refused, granted)
	}
}

func serials(drives []drive.Drive) []string {
	var all []string
	for _, d := range drives {
		all = append(all, d.Serial)
	}
	return all
}

func layout(random *rand.Rand) []drive.Drive {
	var all []drive.Drive
	for i := range 1 + random.IntN(7) {
		d := drive.Drive{Name: fmt.Sprintf("sd%c", 'a'+i), Serial: fmt.Sprint("S", i), Place: fmt.Sprintf("pci-0000:00:1f.2-ata-%d", random.IntN(1000)*10+i),
			SizeBytes: int64(1+random.IntN(4)) * 100e9, Transport: []string{"sata", "sas", "usb"}[random.IntN(3)],
			Rotational: random.IntN(2) == 0, WriteProtected: random.IntN(8) == 0}
		d.Removable = d.Transport == "usb"
		all = append(all, d)
	}
	return all
}

func randomWish(random *rand.Rand) drive.Wish {
	w := drive.Wish{Count: random.IntN(4), Order: []drive.Order{drive.Unordered, drive.BySize, drive.BySizeUp, drive.ByPlace}[random.IntN(4)]}
	if random.IntN(2) == 0 {
		w.Removable = no()
	}
	if random.IntN(3) == 0 {
		w.Rotational = yes()
	}
	if random.IntN(3) == 0 {
		w.SizeMin = 200e9
	}
	if random.IntN(3) == 0 {
		w.Transports = []string{"sata", "usb"}
	}
	return w
}

// renamed are the same disks as another start of the kernel shows them.
func renamed(random *rand.Rand, all []drive.Drive) []drive.Drive {
	again := slices.Clone(all)
	random.Shuffle(len(again), func(i, j int) { again[i], again[j] = again[j], again[i] })
	for i := range again {
		again[i].Name = fmt.Sprintf("sd%c", 'a'+i)
	}
	return again
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"100G": 100e9, "100 GB": 100e9, "1.8TB": 18e11, "16GiB": 16 << 30, "512": 512, "512B": 512, "2k": 2000, "0": 0, "1TiB": 1 << 40,
	} {
		if got, err := drive.ParseSize(text); err != nil || got != want {
			t.Errorf("%q is %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "G", "-1G", "1X", "1GG", "1iB", "1.2.3G", "9e99", "99999999T", "1 G B"} {
		if got, err := drive.ParseSize(text); err == nil {
			t.Errorf("%q is taken for %d", text, got)
		}
	}
}

func FuzzParseSize(f *testing.F) {
	f.Add("1.8TB")
	f.Fuzz(func(t *testing.T, text string) {
		if n, err := drive.ParseSize(text); n < 0 || err != nil && n != 0 {
			t.Errorf("%q is %d, %v", text, n, err)
		}
	})
}
