package nvram_test

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"edeploy/agent/internal/disk"
	"edeploy/agent/internal/nvram"
	"edeploy/integration/needs"
)

const global = "-8be4df61-93ca-11d2-aa0d-00e098032b8c"

// variables is a directory of UEFI variables: boot entries by number and
// label, each with the nodes of its device path in hexadecimal; the order.
func variables(t *testing.T, order string, entries map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	put := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name+global), append([]byte{7, 0, 0, 0}, data...), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, path := range entries {
		number, label, _ := strings.Cut(name, " ")
		nodes, err := hex.DecodeString(strings.ReplaceAll(path+end, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		data := binary.LittleEndian.AppendUint32(nil, 1)
		data = binary.LittleEndian.AppendUint16(data, uint16(len(nodes)))
		for _, letter := range append(utf16.Encode([]rune(label)), 0) {
			data = binary.LittleEndian.AppendUint16(data, letter)
		}
		put("Boot"+number, append(data, nodes...))
	}
	if order != "" {
		var data []byte
		for _, n := range strings.Fields(order) {
			var number uint16
			fmt.Sscanf(n, "%04X", &number)
			data = binary.LittleEndian.AppendUint16(data, number)
		}
		put("BootOrder", data)
	}
	return dir
}

// Device paths, as OVMF writes them (UEFI specification 10.3): a PCI root, a
// device on it, and what is behind.
const (
	pci      = "02010c00 d041030a 00000000 01010600 0003 "
	network  = pci + "030b2500 525400123456 0000000000000000000000000000000000000000000000000000 01 "
	virtio   = pci
	cd       = pci + "04021800 00000000 0000000000000000 0000000000000000 "
	stick    = pci + "03050600 0000 "
	shell    = "04071400 c9bdb87cebf8344faaea3ee4af6516a1 04061400 83a5047c3e9e1c4fad65e05268d0b4d1 "
	bbsDisk  = "05010900 0200 0000 00 "
	bbsNet   = "05010900 0600 0000 00 "
	partHead = "04012a00 02000000 0008000000000000 0000080000000000 "
	partTail = " 02 02 04040400 "
	mine     = partHead + "00112233445566778899aabbccddeeff" + partTail
	other    = partHead + "ff112233445566778899aabbccddeeff" + partTail // of another disk, which is there
	gone     = partHead + "ee112233445566778899aabbccddeeff" + partTail
	end      = "7fff0400"
)

var entry = nvram.Entry{Label: "debian", File: "EFI/debian/shimx64.efi", Partition: disk.Partition{
	Number: 2, Start: 0x1000, Blocks: 0x80000, Type: disk.TypeESP,
	ID: disk.GUID{0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff},
}}

// there: every partition but that of gone.
func there(id disk.GUID) bool { return id[0] != 0xee }

func TestAdd(t *testing.T) {
	for _, tt := range []struct {
		name, order string
		entries     map[string]string
		want        string // the order
		variable    string
	}{
		{"nothing there", "", nil, "0000", "Boot0000"},
		{"network first", "0000 0001", map[string]string{"0000 net": network, "0001 disk": virtio}, "0000 0002 0001", "Boot0002"},
		{"network alone", "0001 0002 0000", map[string]string{"0000 Shell": shell, "0001 IPv4": network, "0002 IPv6": network}, "0001 0002 0003 0000", "Boot0003"},
		{"a disk first", "0001 0000", map[string]string{"0000 net": network, "0001 disk": virtio}, "0002 0001 0000", "Boot0002"},
		{"a CD and a stick before the network", "0003 0004 0000 0001", map[string]string{"0000 net": network, "0001 disk": virtio, "0003 CD": cd, "0004 stick": stick},
			"0003 0004 0000 0002 0001", "Boot0002"},
		{"a BIOS's devices", "0000 0001", map[string]string{"0000 net": bbsNet, "0001 disk": bbsDisk}, "0000 0002 0001", "Boot0002"},
		{"installed before", "0001 0000 0002", map[string]string{"0000 debian": gone, "0001 net": network, "0002 disk": virtio}, "0001 0000 0002", "Boot0000"},
		{"installed twice before", "0001 0003 0000", map[string]string{"0000 debian": gone, "0001 net": network, "0003 debian": mine}, "0001 0003", "Boot0003"},
		{"another disk's of this name", "0001 0000", map[string]string{"0000 debian": other, "0001 net": network}, "0001 0002 0000", "Boot0002"},
		{"another name on this partition", "0001 0000", map[string]string{"0000 rescue": mine, "0001 net": network}, "0001 0002 0000", "Boot0002"},
		{"an order that names what is not there", "0007 0001", map[string]string{"0001 net": network}, "0001 0000", "Boot0000"},
		{"ours is not in the order", "0001", map[string]string{"0005 debian": mine, "0001 net": network}, "0001 0005", "Boot0005"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := variables(t, tt.order, tt.entries)
			// Twice: the second finds it done.
			for range 2 {
				variable, err := nvram.Add(dir, entry, there)
				if err != nil || variable != tt.variable {
					t.Fatalf("got %s, %v, want %s", variable, err, tt.variable)
				}
				if got := order(t, dir); got != tt.want {
					t.Errorf("the order is %s, want %s", got, tt.want)
				}
			}
			for name := range tt.entries {
				number, label, _ := strings.Cut(name, " ")
				_, err := os.Stat(filepath.Join(dir, "Boot"+number+global))
				if kept := err == nil; kept != (label != "debian" || strings.Contains(tt.want, number)) {
					t.Errorf("Boot%s %s is there: %v", number, label, kept)
				}
			}
		})
	}
}

func order(t *testing.T, dir string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "BootOrder"+global))
	if err != nil {
		t.Fatal(err)
	}
	if attributes := binary.LittleEndian.Uint32(data); attributes != 7 {
		t.Errorf("BootOrder has the attributes %d, want 7", attributes)
	}
	var words []string
	for data = data[4:]; len(data) > 0; data = data[2:] {
		words = append(words, fmt.Sprintf("%04X", binary.LittleEndian.Uint16(data)))
	}
	return strings.Join(words, " ")
}

// TestPeer: efibootmgr reads what Add wrote.
func TestPeer(t *testing.T) {
	needs.Programs(t, "efibootmgr")
	dir := variables(t, "0000 0001", map[string]string{"0000 net": network, "0001 disk": virtio})
	if _, err := nvram.Add(dir, entry, there); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("efibootmgr", "-v")
	cmd.Env = append(os.Environ(), "EFIVARFS_PATH="+dir+"/")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	want := regexp.MustCompile(`(?i)BootOrder: 0000,0002,0001\n(.*\n)*Boot0002\* debian\tHD\(2,GPT,33221100-5544-7766-8899-aabbccddeeff,0x1000,0x80000\)/File\(\\EFI\\debian\\shimx64\.efi\)\n`)
	if err != nil || !want.Match(out) {
		t.Errorf("%v, want %s", err, want)
	}
}

// TestRefused: what the firmware does not take is an error that names it.
func TestRefused(t *testing.T) {
	for name, damage := range map[string]func(dir string) error{
		"open":     func(dir string) error { return os.RemoveAll(dir) },
		"Boot0000": func(dir string) error { return os.WriteFile(filepath.Join(dir, "Boot0000"+global), nil, 0o644) },
		"Boot0002": func(dir string) error { return os.Symlink("/no/such/place", filepath.Join(dir, "Boot0002"+global)) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := variables(t, "0000 0001", map[string]string{"0000 net": network, "0001 disk": virtio})
			if err := damage(dir); err != nil {
				t.Fatal(err)
			}
			if _, err := nvram.Add(dir, entry, there); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("got %v, want an error about %s", err, name)
			}
		})
	}
}

// TestMemory: of memory that is full or read-only the error says so, and what
// was there is there, and nothing else.
func TestMemory(t *testing.T) {
	needs.Root(t)
	all := map[string]string{"0000 net": network, "0001 disk": virtio}
	const inodes = 1 + 2 // of the directory and the entries
	for _, tt := range []struct {
		name, order, options string
		want                 error
	}{
		{"full", "0000 0001", fmt.Sprintf("nr_inodes=%d", inodes+1), unix.ENOSPC},
		{"full after the entry", "", fmt.Sprintf("nr_inodes=%d", inodes+1), unix.ENOSPC},
		{"read-only", "0000 0001", "ro", unix.EROFS},
		{"read-only, no order", "", "ro", unix.EROFS},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := mount(t, variables(t, tt.order, all), tt.options)
			before := content(t, dir)
			if _, err := nvram.Add(dir, entry, there); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if diff := cmp.Diff(before, content(t, dir)); diff != "" {
				t.Errorf("variables (-before +after):\n%s", diff)
			}
		})
	}
}

// mount copies variables to a file system of their own, which then gets options.
func mount(t *testing.T, variables, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	var flags uintptr = unix.MS_REMOUNT
	if options == "ro" {
		flags, options = flags|unix.MS_RDONLY, ""
	}
	if err := errors.Join(os.CopyFS(dir, os.DirFS(variables)), unix.Mount("", dir, "", flags, options)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func content(t *testing.T, dir string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found[filepath.Base(file)] = string(data)
	}
	return found
}

// Variables come from the firmware: whatever they hold must not crash the agent.
func FuzzAdd(f *testing.F) {
	f.Add([]byte{7, 0, 0, 0, 1, 0, 0, 0, 4, 0, 'a', 0, 0, 0, 0x7f, 0xff, 4, 0}, []byte{7, 0, 0, 0, 0, 0})
	f.Add([]byte{7, 0, 0, 0, 1, 0, 0, 0, 0xff, 0xff, 0, 0, 4, 1, 4, 0}, []byte{7, 0, 0, 0})
	f.Fuzz(func(t *testing.T, option, order []byte) {
		dir := t.TempDir()
		for name, data := range map[string][]byte{"Boot0000": option, "BootOrder": order} {
			if err := os.WriteFile(filepath.Join(dir, name+global), data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		name, err := nvram.Add(dir, entry, there)
		if err != nil {
			return
		}
		if got, _ := os.ReadFile(filepath.Join(dir, "BootOrder"+global)); !slices.Contains([]string{"Boot0000", "Boot0001"}, name) || len(got) < 6 {
			t.Errorf("%s, order %x", name, got)
		}
	})
}
