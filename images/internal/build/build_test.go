package build

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edeploy/images/internal/role"
	"edeploy/images/manifest"
	"edeploy/integration/needs"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
)

func TestMmdebstrapArgs(t *testing.T) {
	base := role.Definition{Suite: "bookworm", Kernel: "linux-image-x", Packages: []string{"ssh", "lvm2"},
		DpkgOptions: []string{"path-exclude=/usr/share/doc/*"}}
	tests := []struct {
		name   string
		recipe recipe
		want   []string
	}{
		{"base", recipe{role: base, parts: []string{"main"}, version: role.Version{Kernel: "linux-image-y", Packages: []string{"vim"}}}, []string{
			"--mode=auto", "--format=tar", "--verbose", "--components=main", "--dpkgopt=path-exclude=/usr/share/doc/*",
			"--variant=minbase", "--hook-dir=" + mergedUsr, "--setup-hook=/w/archive", "--include=linux-image-y,ssh,lvm2,vim",
			"--essential-hook=/w/users",
			"--customize-hook=tar-in /w/files.tar /", "--customize-hook=/w/commands", "--customize-hook=/w/finish", "bookworm", "-"}},
		{"derived", recipe{parts: []string{"main", "non-free-firmware"}, role: role.Definition{Base: "base", Packages: []string{"db"}}, archive: "/out/base.edeploy"}, []string{
			"--mode=auto", "--format=tar", "--verbose", "--components=main,non-free-firmware", "--variant=custom", "--setup-hook=/w/unpack", "--setup-hook=/w/archive",
			"--customize-hook=/w/users", "--customize-hook=/w/install",
			"--customize-hook=tar-in /w/files.tar /", "--customize-hook=/w/commands", "--customize-hook=/w/finish", "bookworm", "-"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.recipe.suite = "bookworm"
			if diff := cmp.Diff(tt.want, tt.recipe.mmdebstrapArgs("/w")); diff != "" {
				t.Errorf("arguments (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWatch(t *testing.T) {
	var got []Event
	w := newWatch(func(e Event) { got = append(got, e) })
	for _, text := range []string{"I: running apt-get upd", "ate...\nGet:1 x\r50%\rI: installing remaining packages inside the chroot...\n",
		"0 upgraded, 2 newly installed, 0 to remove\nSetting up a (1) ...\n", "Setting up b (2) ...\nSetting up a (1) ...\n"} {
		io.WriteString(w, text)
	}
	want := []Event{{Phase: "update"}, {Phase: "install packages"}, {"install packages", 0, 2}, {"install packages", 1, 2}, {"install packages", 2, 2}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// The cause of a failure is what was said before mmdebstrap spoke of itself.
func TestCause(t *testing.T) {
	tests := []struct{ name, said, last, before string }{
		{"package", "(Reading database ... 100%\nReading state information...\nE: Unable to locate package x\nE: setup failed: E: apt-get -o a=b failed\n" +
			"I: main() received signal PIPE: waiting for setup...\nI: removing tempdir /tmp/x...\nE: mmdebstrap failed to run\n",
			"E: Unable to locate package x", "Reading state information..."},
		{"command", "+ a\n+ systemctl enable b\nFailed to enable unit: Unit file b does not exist.\nE: command failed: /w/commands\nE: run_setup failed: x\n",
			"Failed to enable unit: Unit file b does not exist.", "+ a\n+ systemctl enable b"},
		{"nothing else", "E: mmdebstrap failed to run\n", "mmdebstrap failed", "E: mmdebstrap failed to run"},
		{"many lines", strings.Repeat("x\n", 20) + "end\n", "end", strings.Repeat("x\n", 7) + "x"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWatch(func(Event) {})
			io.WriteString(w, tt.said)
			last, before := w.cause()
			if diff := cmp.Diff([]string{tt.last, tt.before}, []string{last, before}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestDpkgStatus(t *testing.T) {
	status := "Package: zlib\nStatus: install ok installed\nVersion: 1:2\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 3\n\n" +
		"Package: bash\nStatus: install ok installed\nDescription: shell\n Version: no\nVersion: 5.2\n"
	got, err := dpkgStatus(strings.NewReader(status))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"bash 5.2", "zlib 1:2"}, got); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
}

// tarOf makes a tar of files (content), directories (name/) and links (name -> target).
func tarOf(t *testing.T, files map[string]string) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, content := range files {
		h := &tar.Header{Name: "./" + name, Mode: 0o644, Typeflag: tar.TypeReg, Size: int64(len(content))}
		if strings.HasSuffix(name, "/") {
			h.Typeflag, h.Size = tar.TypeDir, 0
		}
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			h.Typeflag, h.Size, h.Linkname = tar.TypeSymlink, 0, target
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			io.WriteString(w, content)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

// goodTree is the least that a bootable tree has; the test's own binary is
// the client when it is static.
func goodTree(t *testing.T) map[string]string {
	t.Helper()
	return map[string]string{
		"boot/vmlinuz-6.1": "k", "boot/initrd.img-6.1": initrdOf("usr/sbin/edeploy", "scripts/local-bottom/edeploy"), "usr/lib/modules/6.1/": "",
		"lib": "-> usr/lib", "sbin": "-> usr/sbin", "usr/sbin/init": "-> ../lib/systemd/systemd",
		"usr/sbin/grub-install": "g", "usr/sbin/update-grub": "g", "usr/lib/grub/i386-pc/boot.img": "g",
		"usr/sbin/sshd": "s", "etc/passwd": "root", "etc/machine-id": "", "etc/resolv.conf": "",
		"etc/shadow":           "root:*:1::::::\nsshd:!:1::::::\n",
		"var/lib/edeploy/conf": "VERS=V1\nROLE=base\n",
		"usr/sbin/edeploy":     string(staticELF()),

		"usr/share/initramfs-tools/hooks/edeploy":                "h",
		"usr/share/initramfs-tools/scripts/local-bottom/edeploy": "s",
	}
}

// initrdOf is an initramfs of empty files: an uncompressed archive, zeros, and a
// compressed one, as Debian's are when they bring microcode.
func initrdOf(names ...string) string {
	var b bytes.Buffer
	segment := func(names ...string) string {
		var s strings.Builder
		for _, name := range append(names, "TRAILER!!!") {
			fmt.Fprintf(&s, "070701%s%08x%s%s\x00", strings.Repeat("0", 8*11), len(name)+1, strings.Repeat("0", 8), name)
			s.WriteString(strings.Repeat("\x00", -s.Len()&3))
		}
		return s.String()
	}
	b.WriteString(segment("kernel/x86/microcode/GenuineIntel.bin") + strings.Repeat("\x00", 300))
	w, err := zstd.NewWriter(&b)
	if err != nil {
		panic(err)
	}
	io.WriteString(w, segment(names...))
	w.Close()
	return b.String()
}

// staticELF is the header of an ELF program without an interpreter.
func staticELF() []byte {
	b := make([]byte, 64)
	copy(b, "\x7fELF\x02\x01\x01")
	b[16], b[18], b[20], b[52], b[54], b[58] = 2, 62, 1, 64, 56, 64
	return b
}

func TestCheck(t *testing.T) {
	self, err := os.ReadFile("/bin/sh")
	needs.That(t, err == nil, "/bin/sh, a dynamically linked program: %v", err)
	v1 := wire.ImageRef{Role: "base", Version: "V1"}
	tests := []struct {
		name     string
		set      map[string]string
		remove   string
		bootable bool
		want     []string
	}{
		{name: "good", bootable: true},
		{name: "no kernel", remove: "boot/vmlinuz-6.1", bootable: true, want: []string{"kernel is missing"}},
		{name: "no kernel needed", remove: "boot/vmlinuz-6.1"},
		{name: "no initrd", remove: "boot/initrd.img-6.1", bootable: true, want: []string{"no initrd"}},
		{name: "initrd without recovery", set: map[string]string{"boot/initrd.img-6.1": initrdOf("init")}, bootable: true,
			want: []string{"/boot/initrd.img-6.1 has no /usr/sbin/edeploy"}},
		{name: "initrd without its script", set: map[string]string{"boot/initrd.img-6.1": initrdOf("usr/sbin/edeploy")}, bootable: true,
			want: []string{"/boot/initrd.img-6.1 has no /scripts/local-bottom/edeploy"}},
		{name: "initrd of nothing", set: map[string]string{"boot/initrd.img-6.1": "i"}, bootable: true, want: []string{"cannot be read"}},
		{name: "initrd cut short", set: map[string]string{"boot/initrd.img-6.1": initrdOf()[:100]}, bootable: true, want: []string{"cannot be read"}},
		{name: "initrd without a controller's module", set: map[string]string{"usr/lib/modules/6.1/kernel/drivers/scsi/mpt3sas/mpt3sas.ko": "m",
			"usr/lib/modules/6.1/kernel/drivers/block/virtio_blk.ko": "m", "usr/lib/modules/6.1/kernel/sound/snd.ko": "m",
			"boot/initrd.img-6.1": initrdOf("usr/sbin/edeploy", "scripts/local-bottom/edeploy", "usr/lib/modules/6.1/kernel/drivers/block/virtio_blk.ko")}, bootable: true,
			want: []string{"disks behind mpt3sas would not find their root: /boot/initrd.img-6.1 lacks"}},
		{name: "no recovery later", remove: "usr/share/initramfs-tools/hooks/edeploy", bootable: true, want: []string{"kernels installed later"}},
		{name: "no modules", remove: "usr/lib/modules/6.1/", bootable: true, want: []string{"no modules"}},
		{name: "no GRUB", remove: "usr/sbin/grub-install", bootable: true, want: []string{"boot loader GRUB is missing"}},
		{name: "no GRUB modules", remove: "usr/lib/grub/i386-pc/boot.img", bootable: true, want: []string{"no modules for any firmware"}},
		{name: "no client", remove: "usr/sbin/edeploy", bootable: true, want: []string{"client is missing"}},
		{name: "client with libraries", set: map[string]string{"usr/sbin/edeploy": string(self)}, bootable: true, want: []string{"shared libraries"}},
		{name: "client is a script", set: map[string]string{"usr/sbin/edeploy": "#!/bin/sh\n"}, bootable: true, want: []string{"not a program"}},
		{name: "host key", set: map[string]string{"etc/ssh/ssh_host_rsa_key": "k"}, want: []string{"ssh_host_rsa_key belongs to one machine"}},
		{name: "machine id", set: map[string]string{"etc/machine-id": "abc\n"}, want: []string{"machine-id is not empty"}},
		{name: "password", set: map[string]string{"etc/shadow": "root:$y$abc:1::::::\n"}, want: []string{"account root has a password"}},
		{name: "empty password", set: map[string]string{"etc/shadow": "root::1::::::\n"}, want: []string{"account root has a password or none"}},
		{name: "no conf", remove: "var/lib/edeploy/conf", want: []string{"conf is missing"}},
		{name: "other version", set: map[string]string{"var/lib/edeploy/conf": "VERS=V2\nROLE=base\n"}, want: []string{"says base V2"}},
		{name: "package lists", set: map[string]string{"var/lib/apt/lists/x_Packages": "p"}, want: []string{"left over"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := goodTree(t)
			delete(files, tt.remove)
			for name, content := range tt.set {
				files[name] = content
			}
			got, err := Check(tarOf(t, files), v1, tt.bootable, []string{"/srv/shared.pem"})
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != len(tt.want) {
				t.Fatalf("findings %q, want %q", got, tt.want)
			}
			for i := range got {
				if !strings.Contains(got[i], tt.want[i]) {
					t.Errorf("finding %q, want one with %q", got[i], tt.want[i])
				}
			}
		})
	}
}

func TestDiff(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, packages string, entries ...manifest.Entry) string {
		m, err := manifest.New(append([]manifest.Entry{{Path: ".", Type: manifest.Dir, Mode: 0o755}, {Path: "etc", Type: manifest.Dir, Mode: 0o755}}, entries...))
		if err != nil {
			t.Fatal(err)
		}
		var text bytes.Buffer
		if _, err := m.WriteTo(&text); err != nil {
			t.Fatal(err)
		}
		for suffix, b := range map[string]string{".mtree": text.String(), ".packages": packages} {
			if err := os.WriteFile(filepath.Join(dir, name+suffix), []byte(b), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return filepath.Join(dir, name+".edeploy")
	}
	file := func(name string, mode uint32, size int64) manifest.Entry {
		return manifest.Entry{Path: name, Type: manifest.File, Mode: mode, Size: size, SHA256: [32]byte{byte(size)}}
	}
	a := write("a", "bash 1\nold 1\nsame 1\n", file("etc/gone", 0o644, 1), file("etc/grown", 0o644, 1), file("etc/mode", 0o644, 1))
	b := write("b", "bash 2\nnew 1\nsame 1\n", file("etc/grown", 0o644, 2), file("etc/mode", 0o600, 1), file("etc/young", 0o644, 1))
	var out bytes.Buffer
	if err := Diff(t.Context(), &out, a, b); err != nil {
		t.Fatal(err)
	}
	want := "PACKAGE  BEFORE  AFTER\nbash     1       2\nnew      -       1\nold      1       -\n3 of 4 packages differ\n\n" +
		"- /etc/gone (file)\n* /etc/grown size\n. /etc/mode mode\n+ /etc/young (file)\n4 paths differ\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

// The overlay holds the role's files with the modes of its rules, what the
// image is, and the time of the build.
func TestWriteFiles(t *testing.T) {
	roles, work := t.TempDir(), t.TempDir()
	files := filepath.Join(roles, "web", "files")
	for _, dir := range []string{"etc/cron.d", "usr/bin"} {
		if err := os.MkdirAll(filepath.Join(files, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	os.WriteFile(filepath.Join(files, "etc/cron.d/.keep"), nil, 0o644)
	os.WriteFile(filepath.Join(files, "usr/bin/run"), []byte("#!/bin/sh\n"), 0o700)
	os.Symlink("run", filepath.Join(files, "usr/bin/go"))
	b := Build{Image: wire.ImageRef{Role: "web", Version: "V1"}, Epoch: time.Unix(1000, 0)}
	if err := b.writeFiles(recipe{role: role.Definition{Name: "web", Dir: filepath.Join(roles, "web")}}, work); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(work, filesTar))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := map[string]string{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, _ := io.ReadAll(r)
		if !h.ModTime.Equal(b.Epoch) || h.Uid != 0 || h.Gid != 0 {
			t.Errorf("%s: time %v, owner %d:%d", h.Name, h.ModTime, h.Uid, h.Gid)
		}
		got[h.Name] = string(h.Typeflag) + " " + h.FileInfo().Mode().Perm().String() + " " + string(content) + h.Linkname
	}
	want := map[string]string{
		"etc/": "5 -rwxr-xr-x ", "etc/cron.d/": "5 -rwxr-xr-x ", "usr/": "5 -rwxr-xr-x ", "usr/bin/": "5 -rwxr-xr-x ",
		"usr/bin/run": "0 -rwxr-xr-x #!/bin/sh\n", "usr/bin/go": "2 -rwxrwxrwx run",
		"etc/hostname": "0 -rw-r--r-- web\n", "etc/motd": "0 -rw-r--r-- Role web\nVersion V1\n",
		"var/": "5 -rwxr-xr-x ", "var/lib/": "5 -rwxr-xr-x ", "var/lib/edeploy/": "5 -rwxr-xr-x ",
		"var/lib/edeploy/conf": "0 -rw-r--r-- VERS=V1\nROLE=web\n",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("overlay (-want +got):\n%s", diff)
	}
}

func TestWriteFilesRefusesLinks(t *testing.T) {
	roles := t.TempDir()
	if err := os.MkdirAll(filepath.Join(roles, "web", "files", "lib"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(roles, "web", "files", "lib", "x"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	b := Build{Image: wire.ImageRef{Role: "web", Version: "V1"}}
	err := b.writeFiles(recipe{role: role.Definition{Name: "web", Dir: filepath.Join(roles, "web")}}, t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "/lib is a link") {
		t.Errorf("error %v", err)
	}
}
