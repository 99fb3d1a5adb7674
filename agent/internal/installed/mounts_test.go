package installed_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edeploy/agent/internal/installed"
	"edeploy/agent/internal/transaction"
	"edeploy/integration/needs"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestBoot(t *testing.T) {
	for fstab, want := range map[string]transaction.FileSystem{
		"": {}, "UUID=1 / ext4\n": {}, "UUID=1 /boot ext4 defaults\n": {Path: "boot", Source: "UUID=1", Type: "ext4"}, "#UUID=1 /boot ext4\n": {},
		"/dev/vda1\t/boot/  vfat": {Path: "boot", Source: "/dev/vda1", Type: "vfat"}, "/dev/vda1 /boot/efi vfat": {},
	} {
		machine := installed.Machine{Root: t.TempDir()}
		write(t, machine.Root, "etc/fstab", fstab)
		got, ok, err := machine.Boot()
		if diff := cmp.Diff(want, got); diff != "" || ok != (want.Path != "") || err != nil {
			t.Errorf("%q: %v %v (-want +got):\n%s", fstab, ok, err, diff)
		}
	}
	if _, ok, err := (installed.Machine{Root: t.TempDir()}).Boot(); ok || err != nil {
		t.Errorf("no fstab: %v %v", ok, err)
	}
}

func TestDevice(t *testing.T) {
	for source, want := range map[string]string{"UUID=ab-1": "/dev/disk/by-uuid/ab-1", `LABEL="boot"`: "/dev/disk/by-label/boot",
		"PARTUUID=x": "/dev/disk/by-partuuid/x", "/dev/md0": "/dev/md0", `/dev/a\040b`: "/dev/a b"} {
		if got, err := installed.DeviceOf(source); got != want || err != nil {
			t.Errorf("%s: %q, %v, want %q", source, got, err, want)
		}
	}
}

func TestMount(t *testing.T) {
	needs.Root(t)
	image := filepath.Join(t.TempDir(), "disk.img")
	must(t, os.WriteFile(image, nil, 0o600))
	must(t, os.Truncate(image, 8<<20))
	run := func(argv ...string) string {
		t.Helper()
		out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
		if err != nil {
			t.Fatalf("%q: %v\n%s", argv, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	run("mkfs.ext4", "-q", "-F", image)
	device := run("losetup", "-f", "--show", image)
	t.Cleanup(func() { exec.Command("losetup", "-d", device).Run() })

	machine := installed.Machine{Root: t.TempDir()}
	must(t, os.Mkdir(filepath.Join(machine.Root, "var"), 0o755))
	wanted := []transaction.FileSystem{{Path: "var", Source: device, Type: "ext4"}}
	lostFound := filepath.Join(machine.Root, "var/lost+found")
	unmount, err := machine.Mount(t.Context(), wanted)
	must(t, err)
	if _, err := os.Stat(lostFound); err != nil {
		t.Error(err)
	}
	again, err := machine.Mount(t.Context(), wanted) // is mounted already
	must(t, err)
	must(t, again())
	if _, err := os.Stat(lostFound); err != nil {
		t.Error(err)
	}
	must(t, unmount())
	if _, err := os.Stat(lostFound); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after unmount: %v", err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err = machine.Mount(ctx, append(wanted, transaction.FileSystem{Path: "var/x", Source: "UUID=none", Type: "ext4"}))
	if err == nil || !strings.HasPrefix(err.Error(), "mount UUID=none on "+machine.Root+"/var/x: ") {
		t.Errorf("Mount of a missing disk = %v", err)
	}
	if _, err := os.Stat(lostFound); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after a failure: %v", err)
	}
	_ = unix.Unmount(filepath.Join(machine.Root, "var"), unix.MNT_DETACH)
}
