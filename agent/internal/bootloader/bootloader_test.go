package bootloader_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edeploy/agent/internal/bootloader"
	"edeploy/agent/internal/command"
	"edeploy/agent/internal/disk"
	"edeploy/agent/internal/treepath"
)

// goodConfig is what grub-mkconfig of Debian 12 writes, shortened.
const goodConfig = `set timeout=5
menuentry 'Debian GNU/Linux' --class debian {
	search --no-floppy --fs-uuid --set=root 0b5b6e2e
	linux	/boot/vmlinuz-6.1.0-18-cloud-amd64 root=UUID=0b5b6e2e ro console=ttyS0
	initrd	/boot/initrd.img-6.1.0-18-cloud-amd64
}
`

// bench is a tree with programs, and a record of what ran in it.
type bench struct {
	root   string
	config string // what grub-mkconfig writes
	events []string
	fail   string
	table  []disk.Partition
	said   []string
	signed bool // grub-install has the signed loaders
}

func newBench(t *testing.T, files map[string]string) *bench {
	t.Helper()
	b := &bench{root: t.TempDir(), config: goodConfig}
	for name, content := range files {
		p := filepath.Join(b.root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(content), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func (b *bench) loader(args string) bootloader.Loader {
	note := func(event string) { b.events = append(b.events, event) }
	return bootloader.Loader{
		Root: b.root, Disk: "/dev/vda", Arguments: args, Firmware: bootloader.BIOS,
		Table:     func(string) ([]disk.Partition, error) { return b.table, nil },
		Said:      func(line string) { b.said = append(b.said, line) },
		Variables: filepath.Join(b.root, "..", "no-variables"),
		LinkDisks: func() error { note("links"); return nil },
		Bind: func(string) (func() error, error) {
			note("bind")
			return func() error { note("unbind"); return nil }, nil
		},
		Run: func(_ context.Context, c command.Command) ([]byte, error) {
			note(strings.Join(c.Argv, " "))
			if c.Chroot != b.root {
				return nil, errors.New("not run inside the tree")
			}
			if b.fail != "" && strings.Contains(c.Argv[0], b.fail) {
				return nil, &command.Failure{Command: c.Shown, Cause: errors.New("exit status 1"), Output: []byte("grub-install: error: embedding is not possible\n")}
			}
			if strings.Contains(c.Argv[0], "mkconfig") {
				file, err := treepath.Follow(b.root, c.Argv[2])
				return nil, errors.Join(err, os.WriteFile(file, []byte(b.config), 0o644))
			}
			if len(c.Argv) > 2 && c.Argv[1] == "--target=x86_64-efi" {
				return nil, b.installEFI(strings.TrimPrefix(c.Argv[3], "--bootloader-id="))
			}
			return nil, nil
		},
	}
}

var debian = map[string]string{"usr/sbin/grub-install": "", "usr/sbin/grub-mkconfig": "", "etc/default/grub": "GRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\n", "etc/default/grub.d/README": ""}

func TestInstall(t *testing.T) {
	b := newBench(t, debian)
	written, err := b.loader("console=ttyS0,115200  ds=nocloud-net;s=http://10.0.0.1/ a=\"$x\"").Install(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantEvents := []string{"links", "bind", "/usr/sbin/grub-install --target=i386-pc /dev/vda", "/usr/sbin/grub-mkconfig -o /boot/grub/grub.cfg", "unbind"}
	if diff := cmp.Diff(wantEvents, b.events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"/boot/grub/", "/etc/default/grub.d/zz-edeploy.cfg"}, written); diff != "" {
		t.Errorf("written (-want +got):\n%s", diff)
	}
	// What grub-mkconfig's shell makes of it.
	out, err := exec.Command("/bin/sh", "-c", `. "$1/etc/default/grub"; . "$1/etc/default/grub.d/zz-edeploy.cfg"; printf '%s' "$GRUB_CMDLINE_LINUX_DEFAULT"`, "sh", b.root).CombinedOutput()
	if want := `quiet console=ttyS0,115200 ds=nocloud-net\;s=http://10.0.0.1/ a="$x"`; err != nil || string(out) != want {
		t.Errorf("GRUB_CMDLINE_LINUX_DEFAULT is %s, %v, want %s", out, err, want)
	}
}

// TestAbsoluteLinks: links of the tree lead to the tree, not to the ramdisk.
func TestAbsoluteLinks(t *testing.T) {
	b := newBench(t, map[string]string{"usr/sbin/grub-install": "", "usr/sbin/grub-mkconfig": "", "usr/etc/grub": "GRUB_TIMEOUT=1\n", "boot/vmlinuz-6.1.0-18-cloud-amd64": ""})
	for name, target := range map[string]string{"boot/grub": "/no/such/grub", "etc": "/usr/share/etc", "usr/share/etc/default": "/usr/etc"} {
		p := filepath.Join(b.root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.Symlink(target, p)); err != nil {
			t.Fatal(err)
		}
	}
	written, err := b.loader("quiet").Install(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"/boot/grub/", "/usr/etc/grub"}, written); diff != "" {
		t.Errorf("written (-want +got):\n%s", diff)
	}
	for name, want := range map[string]string{"no/such/grub/grub.cfg": goodConfig, "usr/etc/grub": "GRUB_TIMEOUT=1\n\n# kernel parameters of the installation\n" +
		"GRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT quiet\"\n"} {
		if text, err := os.ReadFile(filepath.Join(b.root, name)); err != nil || string(text) != want {
			t.Errorf("%s: %v %q", name, err, text)
		}
	}
	kernel, err := bootloader.ChooseKernel(b.root, "", "")
	if want := filepath.Join(b.root, "boot/vmlinuz-6.1.0-18-cloud-amd64"); err != nil || kernel.Image != want {
		t.Errorf("kernel %v, %v, want %s", kernel, err, want)
	}
}

func TestOtherTrees(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		args  string
		want  []string
		grub  string // in the end of /etc/default/grub
	}{
		{"Red Hat's names", map[string]string{"usr/sbin/grub2-install": "", "usr/sbin/grub2-mkconfig": "", "etc/default/grub": "GRUB_TIMEOUT=1"}, "quiet",
			[]string{"/boot/grub2/", "/etc/default/grub"}, "GRUB_TIMEOUT=1\n# kernel parameters of the installation\nGRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT quiet\"\n"},
		{"no settings yet", map[string]string{"sbin/grub-install": "", "sbin/grub-mkconfig": ""}, "a b",
			[]string{"/boot/grub/", "/etc/default/grub"}, "GRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT a b\"\n"},
		{"no arguments", debian, " ", []string{"/boot/grub/"}, "quiet\"\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, tt.files)
			got, err := b.loader(tt.args).Install(t.Context())
			if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
				t.Errorf("error %v (-want +got):\n%s", err, diff)
			}
			if text, err := os.ReadFile(filepath.Join(b.root, "etc/default/grub")); err != nil || !strings.HasSuffix(string(text), tt.grub) {
				t.Errorf("/etc/default/grub: %v\n%s", err, text)
			}
		})
	}
}

func TestBadTrees(t *testing.T) {
	tests := []struct {
		name     string
		files    map[string]string
		config   string
		fail     string
		firmware bootloader.Firmware
		want     string
	}{
		{"no GRUB", nil, goodConfig, "", bootloader.BIOS, "the tree has no grub-install or grub2-install"},
		{"no grub-mkconfig", map[string]string{"sbin/grub-install": ""}, goodConfig, "", bootloader.BIOS, "the tree has no grub-mkconfig"},
		{"no kernel", debian, "set timeout=5\n", "", bootloader.BIOS, "grub.cfg boots no kernel"},
		{"name of the installing kernel", debian, strings.ReplaceAll(goodConfig, "UUID=0b5b6e2e", "/dev/vda1"), "", bootloader.BIOS,
			"boots /boot/vmlinuz-6.1.0-18-cloud-amd64 with root=/dev/vda1: want a UUID"},
		{"grub-install fails", debian, goodConfig, "install", bootloader.BIOS,
			"grub-install --target=i386-pc /dev/vda: exit status 1: grub-install: error: embedding is not possible"},
		{"grub-mkconfig fails", debian, goodConfig, "mkconfig", bootloader.BIOS, "grub-mkconfig -o /boot/grub/grub.cfg: exit status 1"},
		{"UEFI, no GRUB for it", debian, goodConfig, "", bootloader.UEFI, "the tree has no GRUB for UEFI"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, tt.files)
			b.config, b.fail = tt.config, tt.fail
			l := b.loader("")
			l.Firmware = tt.firmware
			_, err := l.Install(t.Context())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
			if last := b.events[len(b.events)-1]; last != "unbind" {
				t.Errorf("the last event is %s, want unbind", last)
			}
		})
	}
}

// TestEveryDisk: each disk below /boot/grub that has a place for it gets the
// loader for BIOS, once.
func TestEveryDisk(t *testing.T) {
	mbr, place, none := []disk.Partition(nil), []disk.Partition{{Number: 1, Type: disk.TypeBIOS}}, []disk.Partition{{Number: 1}}
	link := filepath.Join(t.TempDir(), "by-id")
	if err := os.Symlink("/dev/null", link); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name     string
		disk     string
		below    string
		firmware bootloader.Firmware
		want     string // grub-install for BIOS
		said     string
	}{
		{"one", "/dev/mbr1", "/dev/mbr1", bootloader.BIOS, "/dev/mbr1", ""},
		{"an array", "/dev/mbr2", "/dev/mbr1 /dev/mbr2", bootloader.BIOS, "/dev/mbr2 /dev/mbr1", ""},
		{"with GPTs", "/dev/place1", "/dev/place1 /dev/place2", bootloader.BIOS, "/dev/place1 /dev/place2", ""},
		{"no place", "/dev/mbr1", "/dev/mbr1 /dev/none1", bootloader.BIOS, "/dev/mbr1", "/dev/none1 gets no boot loader, though the system is on it: its GPT has no bios_grub partition"},
		{"no place on the one that the script names: grub-install says so", "/dev/none1", "/dev/none1", bootloader.BIOS, "/dev/none1", ""},
		{"boots from another disk", "/dev/mbr1", "/dev/place1", bootloader.BIOS, "/dev/mbr1 /dev/place1", ""},
		{"by a link", link, "/dev/null /dev/mbr1", bootloader.BIOS, link + " /dev/mbr1", ""},
		{"UEFI", "/dev/none1", "/dev/none1 /dev/place1 /dev/mbr1", bootloader.UEFI, "/dev/place1", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t, debian)
			if err := os.MkdirAll(filepath.Join(b.root, "usr/lib/grub/i386-pc"), 0o755); err != nil {
				t.Fatal(err)
			}
			l := b.loader("")
			l.Disk, l.Below, l.Firmware = test.disk, strings.Fields(test.below), test.firmware
			l.Table = func(name string) ([]disk.Partition, error) {
				return map[string][]disk.Partition{"m": mbr, "p": place, "n": none}[filepath.Base(name)[:1]], nil
			}
			if _, err := l.Install(t.Context()); err != nil && test.firmware == bootloader.BIOS { // the tree has no GRUB for UEFI
				t.Fatal(err)
			}
			var got []string
			for _, event := range b.events {
				if name, ok := strings.CutPrefix(event, "/usr/sbin/grub-install --target=i386-pc "); ok {
					got = append(got, name)
				}
			}
			if diff := cmp.Diff([]string{test.want, test.said}, []string{strings.Join(got, " "), strings.Join(b.said, " ")}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestLogicalVolumeRoot(t *testing.T) {
	b := newBench(t, debian)
	b.config = strings.ReplaceAll(goodConfig, "UUID=0b5b6e2e", "/dev/mapper/vg0-root")
	if _, err := b.loader("").Install(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestLinksFail(t *testing.T) {
	l := newBench(t, debian).loader("")
	broken := errors.New("no disks")
	l.LinkDisks = func() error { return broken }
	if _, err := l.Install(t.Context()); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}
