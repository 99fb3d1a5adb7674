package build

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"edeploy/images/internal/role"
	"edeploy/images/manifest/archive"
	"edeploy/server/wire"
)

// maxKept bounds what a check keeps of one file.
const maxKept = 64 << 20

// CheckFile says what is wrong with an archive, a sentence each: things a
// machine needs in order to boot and be upgraded (when bootable is set), and
// things of the building machine or of one machine that must not be in a role.
// An empty answer is a good archive, as far as one archive tells: what belongs
// to one machine and is not known, only a second build shows. want names the
// image; its zero value accepts any. shared are patterns of paths that machines may share.
func CheckFile(file string, want wire.ImageRef, bootable bool, shared []string) ([]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	tarred, err := archive.Open(f)
	if err != nil {
		return nil, fmt.Errorf("check %s: %w", file, err)
	}
	defer tarred.Close()
	findings, err := Check(tarred, want, bootable, shared)
	if err != nil {
		return nil, fmt.Errorf("check %s: %w", file, err)
	}
	return findings, nil
}

// Check is CheckFile for an uncompressed tar stream.
func Check(r io.Reader, want wire.ImageRef, bootable bool, shared []string) ([]string, error) {
	t, err := look(r)
	if err != nil {
		return nil, err
	}
	known, err := role.Machines(nil)
	if err != nil {
		return nil, err
	}
	findings := append(t.leftovers(), t.machines(known, shared)...)
	findings = append(findings, t.identity(want)...)
	if bootable {
		findings = append(findings, t.bootability()...)
	}
	return findings, nil
}

// tree is what a check remembers of an archive.
type tree struct {
	names  map[string]byte   // path to tar type
	links  map[string]string // path of a symbolic link to its target
	kept   map[string][]byte // content of the few files that are looked into
	traces map[string]string // path of a file to what it has of one machine
	early  map[string]early  // path of an initramfs to what it holds
}

// keptFiles are looked into.
var keptFiles = []string{"etc/machine-id", "etc/resolv.conf", "var/lib/edeploy/conf", "usr/sbin/edeploy", "etc/shadow"}

func look(r io.Reader) (*tree, error) {
	t := &tree{map[string]byte{}, map[string]string{}, map[string][]byte{}, map[string]string{}, map[string]early{}}
	archive := tar.NewReader(r)
	for {
		h, err := archive.Next()
		if err == io.EOF {
			return t, nil
		}
		if err != nil {
			return nil, err
		}
		name := path.Clean(h.Name)
		t.names[name] = h.Typeflag
		if h.Typeflag == tar.TypeSymlink {
			t.links[name] = h.Linkname
		}
		if ok, _ := path.Match("boot/initrd.img-*", name); ok && h.Typeflag == tar.TypeReg {
			t.early[name] = readEarly(archive)
		}
		keep := h.Typeflag == tar.TypeReg && slices.Contains(keptFiles, name)
		if !keep && !isTraced(name, h) {
			continue
		}
		content, err := io.ReadAll(io.LimitReader(archive, maxKept))
		if err != nil {
			return nil, err
		}
		if keep {
			t.kept[name] = content
		}
		if what := trace(name, content); what != "" && isTraced(name, h) {
			t.traces[name] = what
		}
	}
}

// match lists the paths that fit a pattern of package path.
func (t *tree) match(pattern string) []string {
	var found []string
	for name := range t.names {
		if ok, _ := path.Match(pattern, name); ok {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return found
}

// there says whether the path exists, with the links of a merged /usr.
func (t *tree) there(name string) bool {
	if _, ok := t.names[name]; ok {
		return true
	}
	top, rest, _ := strings.Cut(name, "/")
	target, ok := t.links[top]
	return ok && t.there(path.Join(strings.TrimPrefix(target, "/"), rest))
}

// leftovers are things that belong to one machine.
func (t *tree) leftovers() []string {
	var found []string
	for _, pattern := range []string{"var/lib/systemd/random-seed", "var/lib/dbus/machine-id",
		"var/lib/apt/lists/*_Packages", "var/lib/apt/lists/*_InRelease", "var/cache/apt/archives/*.deb", "usr/sbin/policy-rc.d"} {
		for _, name := range t.match(pattern) {
			if t.names[name] != tar.TypeSymlink {
				found = append(found, "/"+name+" is left over from building")
			}
		}
	}
	for _, name := range []string{"etc/machine-id", "etc/resolv.conf"} {
		if len(t.kept[name]) > 0 {
			found = append(found, "/"+name+" is not empty: every machine would share it")
		}
	}
	for line := range bytes.Lines(t.kept["etc/shadow"]) {
		fields := strings.Split(string(line), ":")
		if len(fields) > 1 && (fields[1] == "" || strings.HasPrefix(fields[1], "$")) {
			found = append(found, "the account "+fields[0]+" has a password or none at all: every machine would share it")
		}
	}
	return found
}

// identity compares what the tree says it is with its name.
func (t *tree) identity(want wire.ImageRef) []string {
	text, ok := t.kept["var/lib/edeploy/conf"]
	if !ok {
		return []string{wire.ConfPath + " is missing"}
	}
	conf, err := wire.ParseInstalled(string(text))
	if err != nil {
		return []string{wire.ConfPath + ": " + err.Error()}
	}
	if want != (wire.ImageRef{}) && conf.Image != want {
		return []string{fmt.Sprintf("%s says %s, but the archive is %s", wire.ConfPath, conf.Image, want)}
	}
	return nil
}

// bootability lists what a machine would miss.
func (t *tree) bootability() []string {
	found := t.kernels()
	for _, need := range []struct{ path, what string }{
		{"usr/sbin/grub-install", "the boot loader GRUB"},
		{"usr/sbin/update-grub", "the boot loader GRUB's configuration tool"},
		{"sbin/init", "an init system"},
		{"usr/sbin/sshd", "the ssh server"},
		{"etc/passwd", "an account file"},
	} {
		if !t.there(need.path) {
			found = append(found, fmt.Sprintf("%s is missing (/%s)", need.what, need.path))
		}
	}
	if len(t.match("usr/lib/grub/*-pc/boot.img"))+len(t.match("usr/lib/grub/*-efi/*.mod")) == 0 {
		found = append(found, "GRUB has no modules for any firmware (/usr/lib/grub)")
	}
	found = append(found, t.recovery()...)
	found = append(found, t.controllers()...)
	return append(found, t.client()...)
}

func (t *tree) kernels() []string {
	kernels := t.match("boot/vmlinuz-*")
	if len(kernels) == 0 {
		return []string{"the kernel is missing (/boot/vmlinuz-*)"}
	}
	var found []string
	for _, k := range kernels {
		release := strings.TrimPrefix(k, "boot/vmlinuz-")
		if !t.there("boot/initrd.img-" + release) {
			found = append(found, "kernel "+release+" has no initrd (/boot/initrd.img-"+release+")")
		}
		if !t.there("lib/modules/" + release) {
			found = append(found, "kernel "+release+" has no modules (/lib/modules/"+release+")")
		}
	}
	return found
}

// client checks that the edeploy client runs whatever the libraries are.
func (t *tree) client() []string {
	program, ok := t.kept["usr/sbin/edeploy"]
	if !ok {
		return []string{"the edeploy client is missing (/usr/sbin/edeploy)"}
	}
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		return []string{"/usr/sbin/edeploy is not a program: " + err.Error()}
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return []string{"/usr/sbin/edeploy needs shared libraries: build it without cgo"}
		}
	}
	return nil
}
