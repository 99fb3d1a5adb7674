package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edeploy/images/manifest"
	"edeploy/images/manifest/fstree"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

// update writes the golden files anew.
var update = os.Getenv("EDEPLOY_GOLDEN") != ""

// golden compares texts with testdata/NAME.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if update {
		must(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	must(t, err)
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func text(t *testing.T, names ...string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(names...))
	must(t, err)
	return string(content)
}

// TestUpgradeAndBack plays all commands in turn; what they print is in
// testdata/story.golden.
func TestUpgradeAndBack(t *testing.T) {
	s := newSite(t)
	s.script(t, "pre", `echo "pre of $ROLE $FROM $TO in $PWD"; [ -s exclude ] && [ -f /usr/bin/gone ]`+"\n")
	s.script(t, "post", `echo "post: "/usr/share/co*; [ ! -e /usr/bin/gone ] && echo "changed by post" >/var/lib/app/log; sh /var/lib/edeploy/$TO/update-grub`+"\n")
	write(t, s.menu(newKernel), s.upgrade, "grub.cfg")
	write(t, `while read -r line; do echo "$line"; done <grub.cfg >/boot/grub/grub.cfg`, s.upgrade, "update-grub")
	was := s.state(t)
	var story strings.Builder
	play := func(want int, args ...string) {
		t.Helper()
		status, out, errs := s.call(t, args...)
		if status != want || errs != "" {
			t.Errorf("%q = %d, stderr %q", args, status, errs)
		}
		story.WriteString("$ edeploy " + strings.Join(args, " ") + "\n" + steady(out))
	}
	play(0, "list")
	play(0, "status")
	play(0, "upgrade", after)
	play(0, "version")
	play(0, "verify")
	play(0, "status")

	target, err := fstree.Walk(t.Context(), s.tree, fstree.Options{})
	must(t, err)
	differ := map[string]bool{}
	for _, d := range manifest.Diff(target, s.state(t)) {
		differ[d.Path] = true
	}
	// excluded and live; local; log of post; state; those of /var/log are not described
	want := map[string]bool{"var/lib/app/db": true, "var/lib/app/log": true, "var/lib/app": true, "home": true, "home/me": true, "home/me/file": true,
		"etc/network/interfaces": true, "etc/network": true, "var/lib/edeploy": true, "var/lib/edeploy/conf": true, "var/lib/edeploy/local": true,
		"var/lib/edeploy/manifest": true, "var/lib/edeploy/left": true, "etc/shadow": true, "var/log": true, ".": true, "boot/grub": true, "boot/grub/grub.cfg": true}
	for name := range differ {
		if !want[name] {
			t.Errorf("after the upgrade %q differs from the tree", name)
		}
	}
	if got, err := os.ReadDir(filepath.Join(s.root, "boot")); err != nil || len(got) != 3 {
		t.Errorf("/boot = %v, %v: the boot guard is still there", got, err)
	}
	for name, want := range map[string]string{"var/lib/app/db": "live", "var/lib/app/schema2": "2", "etc/network/interfaces": "auto eth7\n", "home/me/file": "mine"} {
		if got := text(t, s.root, name); got != want {
			t.Errorf("%s holds %q, want %q", name, got, want)
		}
	}
	conf, err := wire.ParseInstalled(text(t, s.root, wire.ConfPath))
	must(t, err)
	if conf.Image.Version != after || conf.Serv == "" || conf.HTTPPort == 80 || conf.Profile != "vm" {
		t.Errorf("conf = %+v", conf)
	}
	log := text(t, s.root, wire.LogDir, "upgrade-"+before+"-"+after+".log")
	for _, want := range []string{"mysql D12-F.1.0.0 -> D12-F.1.0.1: ", "pre of mysql D12-F.1.0.0 D12-F.1.0.1 in /var/lib/edeploy/D12-F.1.0.1\n", "Upgraded to "} {
		if !strings.Contains(log, want) {
			t.Errorf("the log is\n%swant %q", log, want)
		}
	}

	if got := text(t, s.root, "boot/grub/grub.cfg"); !strings.Contains(got, newKernel) {
		t.Errorf("post wrote the grub.cfg\n%s", got)
	}
	must(t, os.Remove(filepath.Join(s.root, "var/lib/app/log")))
	play(0, "rollback")
	s.unchanged(t, was)
	play(0, "verify")
	play(0, "status")
	play(0, "recover")
	golden(t, "story.golden", story.String())
	if status, _, errs := s.call(t, "rollback"); status != 1 || errs != "edeploy: rollback: no version before this one is kept; this machine is mysql D12-F.1.0.0 as before\n" {
		t.Errorf("a second rollback = %d, stderr %q", status, errs)
	}
}
