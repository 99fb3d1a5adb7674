package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edeploy/agent/internal/upgrade"
	"github.com/google/go-cmp/cmp"
)

// bob adds a user as useradd does, with data of his own.
func (s *site) bob(t *testing.T) {
	t.Helper()
	write(t, text(t, s.root, "etc/passwd")+"bob:x:1000:1000::/home/bob:/bin/sh\n", s.root, "etc/passwd")
	write(t, "root:x:0:\nsudo:x:27:bob\nbob:x:1000:\n", s.root, "etc/group")
	write(t, "root:$y$secret:20000:0:99999:7:::\nbob:$y$his:20000:0:99999:7:::\n", s.root, "etc/shadow")
	write(t, "bob:100000:65536\n", s.root, "etc/subuid")
	write(t, "precious", s.root, "srv/data/db")
	write(t, "precious", s.root, "srv/data/more/db")
	write(t, "edited", s.root, "usr/share/same")
}

// merged are the files of users and groups after an upgrade of a machine with bob.
var merged = map[string]string{
	"etc/passwd": "root:x:0:0::/root:/bin/sh\nmysql:x:450:450::/nonexistent:/bin/false\nbob:x:1000:1000::/home/bob:/bin/sh\n",
	"etc/group":  "root:x:0:\nsudo:x:27:bob\nmysql:x:450:\nbob:x:1000:\n",
	"etc/shadow": "root:$y$secret:20000:0:99999:7:::\nmysql:!:19000::::::\nbob:$y$his:20000:0:99999:7:::\n",
	"etc/subuid": "bob:100000:65536\n",
}

func (s *site) has(t *testing.T, want map[string]string) {
	t.Helper()
	got := map[string]string{}
	for name := range want {
		got[name] = text(t, s.root, name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestAccounts: what was changed on the machine in users and groups stays, with
// what the new version brings; what is lost otherwise is said first.
func TestAccounts(t *testing.T) {
	for name, spoil := range map[string]func(*site){
		"old tree published": func(*site) {},
		"old tree gone": func(s *site) {
			must(t, os.RemoveAll(filepath.Join(filepath.Dir(filepath.Dir(s.tree)), before)))
		},
		"all but one excluded": func(s *site) {
			write(t, text(t, s.upgrade, "exclude")+"/etc/group\n/etc/subuid\n", s.upgrade, "exclude")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			spoil(s)
			s.bob(t)
			was := s.state(t)
			status, out, errs := s.call(t, "test-upgrade", after)
			lost := "lost:   deleted      srv  (2 files, 0.0 MB)\nlost:   overwritten  usr/share/same  (1 files, 0.0 MB)\nLost of this machine's own: srv, usr/share/same. "
			if status != 0 || errs != "" || !strings.HasPrefix(out, lost) {
				t.Errorf("test-upgrade = %d %q, want first of all\n%s\ngot\n%s", status, errs, lost, out)
			}
			for _, want := range []string{"\nmerged: etc/passwd  (of this machine: bob)\n", "\nmerged: etc/shadow  (of this machine: bob)\n", "\nmerged: etc/subuid  (of this machine: bob)\n"} {
				if !strings.Contains(out, want) {
					t.Errorf("test-upgrade printed\n%swant %q", out, want)
				}
			}
			if status, out, errs := s.call(t, "upgrade", after); status != 0 || !strings.Contains(out, "Lost of this machine's own: srv, usr/share/same. ") {
				t.Fatalf("upgrade = %d\n%s%s", status, out, errs)
			}
			s.has(t, merged)
			if info, err := os.Stat(filepath.Join(s.root, "etc/shadow")); err != nil || info.Mode() != 0o640 {
				t.Errorf("etc/shadow: %v, %v", info.Mode(), err)
			}
			if status, out, _ := s.call(t, "verify"); status != 0 {
				t.Errorf("verify = %d\n%s", status, out)
			}
			if status, _, errs := s.call(t, "rollback"); status != 0 {
				t.Errorf("rollback = %d %s", status, errs)
			}
			s.unchanged(t, was)
		})
	}
}

// TestAccountsUnchanged: the files of the new tree come as they are.
func TestAccountsUnchanged(t *testing.T) {
	s := newSite(t)
	if status, out, errs := s.call(t, "upgrade", after); status != 0 || strings.Contains(out, "Lost of") {
		t.Fatalf("upgrade = %d\n%s%s", status, out, errs)
	}
	for _, name := range []string{"etc/passwd", "etc/group", "etc/shadow"} {
		if got, want := text(t, s.root, name), text(t, s.tree, name); got != want {
			t.Errorf("%s is\n%swant\n%s", name, got, want)
		}
	}
}

// TestAccountsExcluded: an exclude list that names all of them leaves all alone.
func TestAccountsExcluded(t *testing.T) {
	s := newSite(t)
	write(t, text(t, s.upgrade, "exclude")+"/etc/*group\n/etc/g*\n/etc/passwd\n/etc/sub*id\n/srv/\n", s.upgrade, "exclude")
	s.bob(t)
	want := map[string]string{"srv/data/db": "precious"}
	for name := range merged {
		want[name] = text(t, s.root, name)
	}
	if status, out, errs := s.call(t, "upgrade", after); status != 0 || strings.Contains(out, "merged: ") {
		t.Fatalf("upgrade = %d\n%s%s", status, out, errs)
	}
	s.has(t, want)
}

// TestAccountsCollide: an id that would belong to two is said before anything
// changes.
func TestAccountsCollide(t *testing.T) {
	s := newSite(t)
	write(t, text(t, s.root, "etc/passwd")+"app:x:450:1000::/:/bin/sh\n", s.root, "etc/passwd")
	was := s.state(t)
	const want = "etc/passwd: uid 450 is that of app on this machine, and of mysql in the new version: give app another one (usermod or groupmod, and chown of its files), then run this again"
	for _, command := range []string{"test-upgrade", "upgrade"} {
		status, out, errs := s.call(t, command, after)
		if sentence := "edeploy: " + command + ": mysql D12-F.1.0.0 to D12-F.1.0.1 is not possible: " + want + "\n"; status != 1 || errs != sentence {
			t.Errorf("%s = %d, stderr %q, want %q", command, status, errs, sentence)
		}
		if command == "test-upgrade" && !strings.Contains(out, "\nconflict: "+want+"\n") {
			t.Errorf("test-upgrade printed\n%s", out)
		}
	}
	_, out, _ := s.call(t, "test-upgrade", after, "--json")
	var got struct {
		Possible  bool
		Conflicts []string
		Lost      []upgrade.Loss
		Merged    []upgrade.Merge
	}
	must(t, json.Unmarshal([]byte(out), &got))
	if got.Possible || len(got.Conflicts) != 1 || len(got.Merged) == 0 || got.Lost == nil {
		t.Errorf("test-upgrade --json = %+v", got)
	}
	s.unchanged(t, was)
}

// TestAccountsChangedMeanwhile: a user that is added while the upgrade is staged
// is not lost.
func TestAccountsChangedMeanwhile(t *testing.T) {
	s := newSite(t)
	s.bob(t)
	s.script(t, "pre", "echo 'eve:x:1001:1001::/:/bin/sh' >>/etc/passwd\n")
	status, _, errs := s.call(t, "upgrade", after)
	if status != 1 || !strings.Contains(errs, "etc/passwd: it was changed meanwhile: its ") || !strings.HasSuffix(errs, "; everything was put back; this machine is mysql D12-F.1.0.0 as before\n") {
		t.Errorf("upgrade = %d, stderr %q", status, errs)
	}
	if got := text(t, s.root, "etc/passwd"); !strings.Contains(got, "bob:") || !strings.Contains(got, "eve:") {
		t.Errorf("etc/passwd is %q", got)
	}
}
