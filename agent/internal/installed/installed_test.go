package installed_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edeploy/agent/internal/installed"
	"edeploy/images/manifest"
	"edeploy/images/manifest/fstree"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, root, name, content string) {
	t.Helper()
	path := filepath.Join(root, name)
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(content), 0o644))
}

// system makes a small installed tree and answers it with its manifest.
func system(t testing.TB) (installed.Machine, *manifest.Manifest) {
	t.Helper()
	root := t.TempDir()
	for _, name := range []string{"usr/bin/su", "etc/issue", "etc/fstab", "boot/vmlinuz", "var/log/dpkg.log", "srv/a b"} {
		write(t, root, name, name)
	}
	for _, dir := range []string{"var", "etc", "."} { // old enough for a change to show
		must(t, os.Chtimes(filepath.Join(root, dir), time.Unix(1e9, 0), time.Unix(1e9, 0)))
	}
	m, err := fstree.Walk(t.Context(), root, fstree.Options{})
	must(t, err)
	return installed.Machine{Root: root}, m
}

func TestCompare(t *testing.T) {
	machine, m := system(t)
	write(t, machine.Root, wire.LocalPath, "# written by the installation\n/etc/fstab\n/boot/grub/\n/opt/x/[y]\n")
	write(t, machine.Root, "etc/fstab", "UUID=1 / ext4")
	write(t, machine.Root, "etc/machine-id", "1234")
	write(t, machine.Root, "boot/grub/grub.cfg", "menu")
	write(t, machine.Root, "opt/x/[y]", "local")
	write(t, machine.Root, "var/log/syslog", "lines")
	allowed, err := machine.Allowed(wire.ImageRef{Role: "mysql", Version: "V"})
	must(t, err)
	c, err := machine.Compare(t.Context(), m, installed.Options{Allowed: allowed})
	must(t, err)
	if len(c.Differences) != 0 || c.Entries != len(m.Entries) || c.Bytes == 0 {
		t.Errorf("Compare = %+v, want no difference", c)
	}

	write(t, machine.Root, "etc/new", "")
	must(t, os.Chmod(filepath.Join(machine.Root, "usr/bin/su"), 0o4755&0o777))
	must(t, os.Remove(filepath.Join(machine.Root, "srv/a b")))
	c, err = machine.Compare(t.Context(), m, installed.Options{Allowed: allowed})
	must(t, err)
	var lines []string
	for _, item := range installed.Itemize(c.Differences) {
		line, _, _ := strings.Cut(item.String(), "time")
		lines = append(lines, line)
	}
	want := []string{"*deleting   etc/new  (extra file)", ".d..t...... srv  (", `>f+++++++++ srv/a\040b  (missing)`, ".f...p..... usr/bin/su  (mode 0644 -> 0755)"}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("items (-want +got):\n%s", diff)
	}

	c, err = machine.Compare(t.Context(), m, installed.Options{})
	must(t, err)
	if len(c.Differences) < 8 {
		t.Errorf("without rules: %v, want what the rules left out as well", c.Differences)
	}
}

func TestItemize(t *testing.T) {
	for want, diffs := range map[string][]manifest.Difference{
		">fcst...... a  (size 1 -> 2, time x -> y)": {
			{Path: "a", Type: manifest.File, Attribute: manifest.AttrSize, Want: "1", Got: "2"},
			{Path: "a", Type: manifest.File, Attribute: manifest.AttrTime, Want: "x", Got: "y"}},
		"cLc........ a  (link x -> y)":                         {{Path: "a", Type: manifest.Symlink, Attribute: manifest.AttrLink, Want: "x", Got: "y"}},
		"cD+++++++++ a  (missing)":                             {{Path: "a", Type: manifest.Char, Attribute: manifest.AttrMissing, Want: "char"}},
		"cd+++++++++ a  (type dir -> link)":                    {{Path: "a", Type: manifest.Dir, Attribute: manifest.AttrType, Want: "dir", Got: "link"}},
		".d....og... a  (owner 0 -> 1, group 0 -> 2)":          {{Path: "a", Type: manifest.Dir, Attribute: manifest.AttrUID, Want: "0", Got: "1"}, {Path: "a", Type: manifest.Dir, Attribute: manifest.AttrGID, Want: "0", Got: "2"}},
		"hf......... a  (same file as b -> a file of its own)": {{Path: "a", Type: manifest.File, Attribute: manifest.AttrLinks, Want: "same file as b", Got: "a file of its own"}},
		".f.......ax a  (system.posix_acl_access none -> 0x01, user.x 0x02 -> none)": {
			{Path: "a", Type: manifest.File, Attribute: "xattr.system.posix_acl_access", Got: "0x01"},
			{Path: "a", Type: manifest.File, Attribute: "xattr.user.x", Want: "0x02"}},
	} {
		items := installed.Itemize(diffs)
		if len(items) != 1 || items[0].String() != want {
			t.Errorf("Itemize = %v, want %s", items, want)
		}
		if len(items[0].Flags) != 11 {
			t.Errorf("%q is not eleven characters", items[0].Flags)
		}
	}
}

func TestConf(t *testing.T) {
	machine, _ := system(t)
	if _, err := machine.Conf(); err == nil || !strings.Contains(err.Error(), "was not installed by edeploy") {
		t.Errorf("Conf without a file = %v", err)
	}
	if _, err := machine.Manifest(); err == nil || !strings.Contains(err.Error(), "--fetch") {
		t.Errorf("Manifest without a file = %v", err)
	}
	write(t, machine.Root, wire.ConfPath, "VERS=D12-F.1.0.0\nROLE=mysql\nSERV=10.0.3.1\n")
	conf, err := machine.Conf()
	must(t, err)
	if conf.Image.Role != "mysql" || conf.RServ != "10.0.3.1" {
		t.Errorf("Conf = %+v", conf)
	}
	write(t, machine.Root, wire.ConfPath, "VERS=../../x\nROLE=mysql\n")
	if _, err := machine.Conf(); err == nil || !strings.Contains(err.Error(), wire.ConfPath) {
		t.Errorf("Conf of a bad version = %v", err)
	}
}
