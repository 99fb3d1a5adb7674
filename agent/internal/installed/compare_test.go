package installed_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"edeploy/agent/internal/installed"
	"edeploy/images/manifest/fstree"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

func TestProtected(t *testing.T) {
	machine := installed.Machine{Root: t.TempDir()}
	write(t, machine.Root, wire.LocalPath, "/etc/fstab\n/boot/grub/\n/opt/x/[y]*\n/opt/back\\slash\n")
	rules, err := machine.Protected()
	must(t, err)
	for name, want := range map[string]bool{"etc/fstab": true, "boot/grub": true, "opt/x/[y]*": true, "opt/x/y1": false, `opt/back\slash`: true,
		"var/lib/edeploy": true, "var/log/edeploy": true, ".edeploy": true, "boot/edeploy": true, "boot/grub2/custom.cfg": true,
		"usr/fstab": false, "etc": false, "var/log": false, "home/.edeploy": false} {
		if got := rules.Excludes(name, !strings.Contains(name, "fstab")); got != want {
			t.Errorf("%s: protected %v, want %v", name, got, want)
		}
	}
}

// TestThroughLinks: names of people and of the program count as their links lead.
func TestThroughLinks(t *testing.T) {
	machine := installed.Machine{Root: t.TempDir()}
	for name, target := range map[string]string{"sbin": "usr/sbin", "var/log": "/data/log", "boot/grub": "/boot/real", "srv/a": "b", "srv/b": "a"} {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(machine.Root, name)), 0o755))
		must(t, os.Symlink(target, filepath.Join(machine.Root, name)))
	}
	write(t, machine.Root, wire.LocalPath, "/sbin/agent.key\n/sbin\n/srv/a/x\n")
	rules, err := machine.Protected()
	must(t, err)
	for name, want := range map[string]bool{"usr/sbin/agent.key": true, "usr/sbin/other": false, "sbin": true, "data/log/edeploy": true, "data/log": false,
		"boot/real/custom.cfg": true, "srv/a/x": true} {
		if got := rules.Excludes(name, false); got != want {
			t.Errorf("%s: protected %v, want %v", name, got, want)
		}
	}
	got := machine.Followed(installed.Rules{"var/log", "var/log/x*", "var/cache", `sbin/\*`, "s*"})
	want := installed.Rules{"var/log", "var/log/x*", "var/cache", `sbin/\*`, "s*", "data/log", "data/log/x*", `usr/sbin/\*`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("followed (-want +got):\n%s", diff)
	}
}

// TestCompareExcluded: what an upgrade left alone may differ, and only that.
func TestCompareExcluded(t *testing.T) {
	machine, _ := system(t)
	for _, name := range []string{"var/lib/app/db", "etc/app/a.conf"} {
		write(t, machine.Root, name, "shipped")
	}
	old := time.Unix(1e9, 0)
	for _, dir := range []string{"var/lib", "var/lib/app", "etc/app", "etc"} {
		must(t, os.Chtimes(filepath.Join(machine.Root, dir), old, old))
	}
	m, err := fstree.Walk(t.Context(), machine.Root, fstree.Options{})
	must(t, err)
	image := wire.ImageRef{Role: "mysql", Version: "D12-F.1.0.0"}
	write(t, machine.Root, installed.LeftPath, "/var/lib/app/db*\n*.conf\n/opt/kept/data\n")
	write(t, machine.Root, "var/lib/app/db", "live")
	write(t, machine.Root, "var/lib/app/db2", "live")
	write(t, machine.Root, "etc/app/a.conf", "edited")
	write(t, machine.Root, "opt/kept/data", "of an older version")
	allowed, err := machine.Allowed(image)
	must(t, err)
	compare := func() (lines []string) {
		c, err := machine.Compare(t.Context(), m, installed.Options{Allowed: allowed})
		must(t, err)
		for _, d := range c.Differences {
			if d.Path != "." { // the time of the top, which has a new /opt
				lines = append(lines, d.Path+" "+d.Attribute)
			}
		}
		return lines
	}
	if got := compare(); len(got) > 0 {
		t.Errorf("Compare = %q, want nothing", got)
	}
	write(t, machine.Root, "opt/kept/other", "")
	write(t, machine.Root, "etc/new", "")
	if diff := cmp.Diff([]string{"etc/new extra", "opt extra"}, compare()); diff != "" {
		t.Errorf("Compare (-want +got):\n%s", diff)
	}
}

// TestCompareFresh: an installation leaves nothing alone. Of the role's exclude
// list counts what a running system makes and changes.
func TestCompareFresh(t *testing.T) {
	machine, _ := system(t)
	for _, name := range []string{"etc/hosts", "etc/lvm/lvm.conf", "var/lib/mysql/ibdata", "root/tool", "srv/www/index"} {
		write(t, machine.Root, name, "shipped")
	}
	m, err := fstree.Walk(t.Context(), machine.Root, fstree.Options{})
	must(t, err)
	image := wire.ImageRef{Role: "mysql", Version: "D12-F.1.0.0"}
	write(t, machine.Root, "var/lib/edeploy/D12-F.1.0.0/exclude", "/etc/hosts\n/etc/lvm/backup/\n/var/lib/mysql/\n/root/\n/srv/\n/opt/\n")
	write(t, machine.Root, "var/lib/mysql/ibdata", "live")
	write(t, machine.Root, "var/lib/mysql/new", "live")
	write(t, machine.Root, "etc/lvm/backup/vg", "made")
	write(t, machine.Root, "root/notes", "mine")
	write(t, machine.Root, "opt/app/x", "mine")
	compare := func(o installed.Options) (lines []string, found installed.Comparison) {
		t.Helper()
		var err error
		o.Allowed, err = machine.Allowed(image)
		must(t, err)
		found, err = machine.Compare(t.Context(), m, o)
		must(t, err)
		for _, d := range found.Differences {
			lines = append(lines, d.Path+" "+d.Attribute)
		}
		return lines, found
	}
	got, found := compare(installed.Options{})
	if len(got) > 0 {
		t.Errorf("Compare = %q, want nothing", got)
	}
	want := map[string]installed.Reason{"var/lib/edeploy": installed.ByProgram, "var/log": installed.ByNature, "var/lib/mysql": installed.ByUpgrade,
		"etc/lvm/backup": installed.ByUpgrade, "root/notes": installed.ByUpgrade, "opt": installed.ByUpgrade}
	if diff := cmp.Diff(want, found.LeftOut); diff != "" {
		t.Errorf("left out (-want +got):\n%s", diff)
	}
	old := time.Unix(1e9, 0)
	write(t, machine.Root, "etc/hosts", "shipped and more")
	must(t, os.Chmod(filepath.Join(machine.Root, "root/tool"), 0o600))
	for _, name := range []string{"root/tool", "etc/hosts"} {
		must(t, os.Chtimes(filepath.Join(machine.Root, name), old, old))
	}
	if got, _ = compare(installed.Options{}); !slices.Contains(got, "etc/hosts size") || !slices.Contains(got, "root/tool mode") {
		t.Errorf("Compare = %q, want the changes of what the tree has", got)
	}
	got, found = compare(installed.Options{All: true})
	if why := found.LeftOut; !slices.Contains(got, "var/lib/mysql/ibdata size") || why["var/lib/mysql/ibdata"] != installed.ByUpgrade || why["etc/hosts"] != "" {
		t.Errorf("with all: %q, %v", got, why)
	}
	write(t, machine.Root, installed.LeftPath, "/etc/hosts\n/root/\n/var/lib/mysql/\n/opt/\n/etc/lvm/backup/\n")
	if got, _ = compare(installed.Options{}); len(got) > 0 {
		t.Errorf("after an upgrade: %q, want nothing", got)
	}
}
