package bootguard_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"edeploy/agent/internal/bootguard"
	"edeploy/images/manifest"
	"edeploy/images/manifest/fstree"
	"edeploy/integration/needs"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func write(t *testing.T, root, name, content string) {
	t.Helper()
	file := filepath.Join(root, name)
	must(t, os.MkdirAll(filepath.Dir(file), 0o755))
	must(t, os.WriteFile(file, []byte(content), 0o600))
}

func read(t *testing.T, root, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	must(t, err)
	return string(text)
}

// populate puts a /boot of one kernel below root.
func populate(t *testing.T, root string) {
	t.Helper()
	config, err := os.ReadFile("testdata/one-onekernel.cfg")
	must(t, err)
	write(t, root, "boot/grub/grub.cfg", string(config))
	write(t, root, "boot/vmlinuz-"+release, strings.Repeat("kernel", 100_000))
	write(t, root, "boot/initrd.img-"+release, strings.Repeat("initrd", 100_000))
}

// tree describes everything below root.
func tree(t *testing.T, root string) *manifest.Manifest {
	t.Helper()
	m, err := fstree.Walk(t.Context(), root, fstree.Options{})
	must(t, err)
	return m
}

func guard(root string) bootguard.Guard { return bootguard.Guard{Root: root, Release: release} }

func TestArmAndDisarm(t *testing.T) {
	root := t.TempDir()
	populate(t, root)
	for name, users := range map[string]string{"no custom.cfg": "", "user's custom.cfg": "set color_normal=red/black\n"} {
		t.Run(name, func(t *testing.T) {
			menu := "boot/grub/custom.cfg"
			if users != "" {
				write(t, root, menu, users)
			}
			before := tree(t, root)
			must(t, guard(root).Arm(t.Context()))
			if text := read(t, root, menu); !strings.Contains(text, "\tlinux\t/boot/edeploy/vmlinuz-"+release+" root=UUID=") {
				t.Errorf("custom.cfg is\n%s", text)
			}
			for _, file := range []string{"vmlinuz-", "initrd.img-"} {
				if read(t, root, "boot/"+file+release) != read(t, root, "boot/edeploy/"+file+release) {
					t.Errorf("%s is not copied", file)
				}
			}
			must(t, guard(root).Arm(t.Context())) // again, after a process that died
			must(t, guard(root).Disarm(t.Context()))
			must(t, guard(root).Disarm(t.Context()))
			if diff := cmp.Diff(before, tree(t, root)); diff != "" {
				t.Errorf("after Disarm (-before +after):\n%s", diff)
			}
		})
	}
}

// TestHalfArmed ends with nothing left, wherever Arm or Disarm stopped.
func TestHalfArmed(t *testing.T) {
	const users = "set color_normal=red/black\n"
	for name, damage := range map[string]func(root string) error{
		"only the copies": func(root string) error { return os.Remove(filepath.Join(root, "boot/grub/custom.cfg")) },
		"custom.cfg saved": func(root string) error {
			return os.WriteFile(filepath.Join(root, "boot/grub/custom.cfg"), []byte(users), 0o644)
		},
		"being written": func(root string) error {
			return os.WriteFile(filepath.Join(root, "boot/grub/.edeploy-part"), nil, 0o644)
		},
		"copies gone": func(root string) error { return os.RemoveAll(filepath.Join(root, "boot/edeploy")) },
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			populate(t, root)
			must(t, guard(root).Arm(t.Context()))
			must(t, damage(root))
			must(t, guard(root).Disarm(t.Context()))
			want := []string{"grub", "initrd.img-" + release, "vmlinuz-" + release}
			if diff := cmp.Diff(want, names(t, root, "boot")); diff != "" {
				t.Errorf("/boot (-want +got):\n%s", diff)
			}
			want = []string{"grub.cfg"}
			if name == "custom.cfg saved" {
				want = []string{"custom.cfg", "grub.cfg"}
			}
			if diff := cmp.Diff(want, names(t, root, "boot/grub")); diff != "" {
				t.Errorf("/boot/grub (-want +got):\n%s", diff)
			}
		})
	}
}

func names(t *testing.T, root, dir string) []string {
	t.Helper()
	found, err := os.ReadDir(filepath.Join(root, dir))
	must(t, err)
	var names []string
	for _, e := range found {
		names = append(names, e.Name())
	}
	return names
}

func TestNoGRUB(t *testing.T) {
	root := t.TempDir()
	var said bytes.Buffer
	g := guard(root)
	g.Log = slog.New(slog.NewTextHandler(&said, nil))
	must(t, g.Arm(t.Context()))
	must(t, g.Disarm(t.Context()))
	if strings.Count(said.String(), "level=WARN") != 1 || len(names(t, root, ".")) != 0 {
		t.Errorf("said %s, left %v", said.String(), names(t, root, "."))
	}
}

func TestRefuses(t *testing.T) {
	for want, damage := range map[string]func(root string) error{
		"boot/grub/grub.cfg: it has no entry that starts a kernel with an initial RAM disk and whose files are in /boot": func(root string) error {
			return os.Remove(filepath.Join(root, "boot/initrd.img-"+release))
		},
		"boot/grub/grub.cfg: it does not read custom.cfg": func(root string) error {
			return os.WriteFile(filepath.Join(root, "boot/grub/grub.cfg"), nil, 0o644)
		},
	} {
		root := t.TempDir()
		populate(t, root)
		must(t, damage(root))
		before := tree(t, root)
		if err := guard(root).Arm(t.Context()); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("Arm = %v, want %s", err, want)
		}
		if diff := cmp.Diff(before, tree(t, root)); diff != "" {
			t.Errorf("Arm left (-before +after):\n%s", diff)
		}
	}
}

// disk makes an ext4 file system of its own and mounts it.
func disk(t *testing.T, at string, size int64) (image string) {
	t.Helper()
	needs.Root(t)
	image = filepath.Join(t.TempDir(), "disk.img")
	must(t, os.WriteFile(image, nil, 0o600))
	must(t, os.Truncate(image, size))
	run(t, "mkfs.ext4", "-q", "-F", image)
	device := strings.TrimSpace(run(t, "losetup", "-f", "--show", image))
	t.Cleanup(func() { exec.Command("losetup", "-d", device).Run() })
	must(t, os.MkdirAll(at, 0o755))
	must(t, unix.Mount(device, at, "ext4", 0, ""))
	t.Cleanup(func() { unix.Unmount(at, unix.MNT_DETACH) })
	return image
}

func run(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.Command(needs.Program(t, argv[0]), argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v\n%s", argv, err, out)
	}
	return string(out)
}

// TestGRUBSeesIt asks GRUB's own driver, which does not read ext4's journal,
// for what Arm wrote on a mounted file system: this is what a power cut leaves.
func TestGRUBSeesIt(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	image := disk(t, root, 32<<20)
	populate(t, root)
	must(t, guard(root).Arm(t.Context()))
	if got, want := run(t, "grub-fstest", image, "cat", "/boot/grub/custom.cfg"), read(t, root, "boot/grub/custom.cfg"); got != want {
		t.Errorf("GRUB reads custom.cfg as\n%q, want\n%q", got, want)
	}
	run(t, "grub-fstest", image, "cmp", "/boot/edeploy/vmlinuz-"+release, filepath.Join(root, "boot/vmlinuz-"+release))
	must(t, guard(root).Disarm(t.Context()))
	if out, err := exec.Command("grub-fstest", image, "cat", "/boot/grub/custom.cfg").CombinedOutput(); err == nil {
		t.Errorf("GRUB still reads custom.cfg after Disarm:\n%s", out)
	}
}

func TestFullDisk(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	disk(t, root, 8<<20)
	populate(t, root)
	free := make([]byte, 1<<20)
	filler, err := os.Create(filepath.Join(root, "filler"))
	must(t, err)
	for err == nil {
		_, err = filler.Write(free)
	}
	filler.Close()
	before := tree(t, root)
	if err := guard(root).Arm(t.Context()); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("Arm = %v", err)
	}
	if diff := cmp.Diff(before, tree(t, root)); diff != "" {
		t.Errorf("Arm left (-before +after):\n%s", diff)
	}
}
