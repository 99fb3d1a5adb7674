// Package boot tells how an installed machine boots its own disk.
package boot

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edeploy/integration/lab"
	"edeploy/integration/lab/labtest"
	"edeploy/pxe"
	"edeploy/server/wire"
)

// installed is the policy for machines that boot their own disk.
type installed struct{}

func (installed) BootAction(string, string) wire.BootAction { return wire.BootLocal }

// TestInstalledDisk: a BIOS machine with several disks boots the one that was
// installed, whatever number the BIOS gave it. A disk is a boot sector that says
// its name.
func TestInstalledDisk(t *testing.T) {
	labtest.NeedVM(t)
	first, second := bootSector("THE FIRST DISK", "11111111"), bootSector("THE SECOND DISK", "22222222")
	blank := make([]byte, wire.DiskHead)
	for _, test := range []struct {
		name  string
		disk  wire.DiskID // that the server knows of
		disks [][]byte
		bus   lab.Bus
		want  string // on the console
	}{
		{"the first", "11111111", [][]byte{first, second}, lab.Virtio, "the disk starts[^!]*THE FIRST DISK"},
		{"the second", "22222222", [][]byte{first, second}, lab.Virtio, "the disk starts[^!]*THE SECOND DISK"},
		{"the second, SATA", "22222222", [][]byte{first, second}, lab.IDE, "the disk starts[^!]*THE SECOND DISK"},
		{"a GPT", "01020304-0506-0708-090a-0b0c0d0e0f10", [][]byte{first, second, withGPT(bootSector("THE GPT DISK", "11111111"))}, lab.Virtio, "the disk starts[^!]*THE GPT DISK"},
		{"none has it", "33333333", [][]byte{blank, second}, lab.Virtio, "the installed disk is not there[^!]*THE SECOND DISK"},
		{"it has no boot sector", "44444444", [][]byte{second, noBoot(bootSector("", "44444444"))}, lab.Virtio, "the installed disk is not there[^!]*THE SECOND DISK"},
		{"not known, and only the second boots", "", [][]byte{blank, second}, lab.Virtio, "booting its own disk[^!]*THE SECOND DISK"},
		{"none boots", "33333333", [][]byte{blank}, lab.Virtio, "eDeploy: no disk boots[^!]*No bootable device"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := labtest.New(t)
			m := lab.Machine{Name: "m1", Extra: network(t, test.disk)}
			for i, head := range test.disks {
				path := l.Path(fmt.Sprintf("disk%d.raw", i))
				if err := os.WriteFile(path, head, 0o644); err != nil {
					t.Fatal(err)
				}
				if err := os.Truncate(path, 8<<20); err != nil {
					t.Fatal(err)
				}
				m.Disks = append(m.Disks, lab.Disk{Path: path, Bus: test.bus})
			}
			labtest.Expect(t, labtest.Start(t, l, m), 30*time.Second, "(?s)"+test.want)
		})
	}
}

// TestInstalledDiskUEFI: the same for UEFI machines, where a disk is an EFI
// system partition with a GRUB that says its name.
func TestInstalledDiskUEFI(t *testing.T) {
	labtest.NeedVM(t)
	const (
		first, second = "11111111-0000-4000-8000-000000000000", "22222222-0000-4000-8000-000000000000"
		goesOn        = "BdsDxe: failed to load Boot" // the boot manager, with its next entry
	)
	for _, test := range []struct {
		name  string
		disk  wire.DiskID // that the server knows of
		disks []wire.DiskID
		bus   lab.Bus
		want  string // on the console
	}{
		{"the second", second, []wire.DiskID{first, second}, lab.Virtio, "the installed disk starts.*DISK " + second},
		{"the first, NVMe", first, []wire.DiskID{first, second}, lab.NVMe, "the installed disk starts.*DISK " + first},
		{"none has it", "33333333-0000-4000-8000-000000000000", []wire.DiskID{second}, lab.IDE, "the installed disk is not there.*" + goesOn},
		{"not known", "", []wire.DiskID{second}, lab.Virtio, "booting its own disk.*" + goesOn},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := labtest.New(t)
			m := lab.Machine{Name: "m1", Firmware: lab.UEFI, Extra: network(t, test.disk)}
			for i, id := range test.disks {
				path := l.Path(fmt.Sprintf("disk%d.raw", i))
				efiDisk(t, path, id)
				m.Disks = append(m.Disks, lab.Disk{Path: path, Bus: test.bus})
			}
			labtest.Expect(t, labtest.Start(t, l, m), 45*time.Second, "(?s)"+test.want)
		})
	}
}

// efiDisk makes a disk whose EFI system partition has a GRUB that says the
// disk's identifier and waits.
func efiDisk(t *testing.T, path string, id wire.DiskID) {
	t.Helper()
	config, grub := path+".cfg", path+".efi"
	sayDisk(t, config, id)
	runProgram(t, "", "grub-mkimage", "-O", "x86_64-efi", "-o", grub, "-p", "/EFI/BOOT", "-c", config, "echo", "sleep")
	espDisk(t, path, id, map[string]string{"EFI/BOOT/BOOTX64.EFI": grub})
}

// sayDisk writes a configuration of GRUB that says the disk's identifier and
// waits.
func sayDisk(t *testing.T, file string, id wire.DiskID) {
	t.Helper()
	if err := os.WriteFile(file, fmt.Appendf(nil, "echo 'DISK %s'\nsleep 1000\n", id), 0o644); err != nil {
		t.Fatal(err)
	}
}

// espDisk makes a disk with an EFI system partition that holds files: where
// they come from, by their names there.
func espDisk(t *testing.T, path string, id wire.DiskID, files map[string]string) {
	t.Helper()
	if err := lab.BlankDisk(path, 64<<20); err != nil {
		t.Fatal(err)
	}
	const partition = "@@1M" // for mtools
	runProgram(t, fmt.Sprintf("label: gpt\nlabel-id: %s\nstart=2048, type=uefi\n", id), "sfdisk", "-q", path)
	runProgram(t, "", "mformat", "-i", path+partition, "-F", "-T", "122880", "-h", "16", "-s", "32", "::")
	runProgram(t, "", "mmd", "-i", path+partition, "::EFI", "::EFI/BOOT", "::EFI/edeploy", "::grub")
	for name, from := range files {
		runProgram(t, "", "mcopy", "-i", path+partition, from, "::"+name)
	}
}

func runProgram(t *testing.T, stdin string, argv ...string) {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", argv, err, out)
	}
}

// network is QEMU's own network, whose DHCP server sends the card's iPXE to
// our script; 10.0.2.2 is this host.
func network(t *testing.T, disk wire.DiskID) []string {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	services, err := pxe.New(pxe.Config{
		Address: netip.MustParsePrefix("10.0.2.2/24"), HTTPPort: port,
		RangeFirst: netip.MustParseAddr("10.0.2.15"), RangeLast: netip.MustParseAddr("10.0.2.20"),
		LeaseFile: filepath.Join(t.TempDir(), "leases"), BootDir: t.TempDir(),
		Policy:    installed{},
		BootDisks: func(string, string) []wire.DiskID { return []wire.DiskID{disk} },
		Log:       slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{Handler: services.Handler()}
	go web.Serve(listener)
	t.Cleanup(func() { web.Close() })
	return []string{
		"-netdev", fmt.Sprintf("user,id=boot,bootfile=http://10.0.2.2:%d/boot/ipxe?mac=%s", port, mac),
		"-device", "virtio-net-pci,netdev=boot,bootindex=0,mac=" + mac,
	}
}

// bootSector is the first two sectors of a disk that says a text on the
// console and stops.
func bootSector(text string, signature wire.DiskID) []byte {
	head := make([]byte, wire.DiskHead)
	n := copy(head, []byte{
		0x31, 0xc0, 0x8e, 0xd8, // xor ax, ax; mov ds, ax
		0xbe, 0x19, 0x7c, // mov si, text
		0xac, 0x08, 0xc0, 0x74, 0x09, // next: lodsb; or al, al; jz stop
		0xb4, 0x0e, 0xbb, 0x07, 0x00, 0xcd, 0x10, // mov ah, 14; mov bx, 7; int 0x10
		0xeb, 0xf2, // jmp next
		0xfb, 0xf4, 0xeb, 0xfd, // stop: sti; again: hlt; jmp again
	})
	copy(head[n:], text+"\r\n")
	_, at, want, _ := signature.Where()
	copy(head[at:], want)
	head[510], head[511] = 0x55, 0xaa
	return head
}

// noBoot takes the mark of a boot sector away.
func noBoot(head []byte) []byte {
	head = bytes.Clone(head)
	head[510] = 0
	return head
}

// withGPT adds the header of a GPT.
func withGPT(head []byte) []byte {
	head = bytes.Clone(head)
	sector, at, want, _ := wire.DiskID("01020304-0506-0708-090a-0b0c0d0e0f10").Where()
	copy(head[512*sector:], "EFI PART")
	copy(head[512*sector+at:], want)
	return head
}
