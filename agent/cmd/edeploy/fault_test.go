package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"edeploy/agent/internal/transaction"
	"edeploy/agent/internal/upgrade"
	"edeploy/images/manifest/fstree"
	"edeploy/integration/needs"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestUpgradeRefuses: one sentence each, and the machine is as before.
func TestUpgradeRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		to     string
		spoil  func(t *testing.T, s *site)
		status int
		want   string // of the standard error output, which is one line
	}{
		"unknown version": {"D12-F.9", nil, 1, "upgrade: no such upgrade is published: the server has metadata of mysql D12-F.1.0.0 for D12-F.1.0.1\n"},
		"no metadata":     {after, func(t *testing.T, s *site) { must(t, os.RemoveAll(s.upgrade)) }, 1, "upgrade: no such upgrade is published: the server has metadata of mysql D12-F.1.0.0 for none\n"},
		"its own version": {before, nil, 1, "upgrade: this machine is mysql D12-F.1.0.0 already\n"},
		"no version":      {"../x", nil, 1, `upgrade: version name "../x" starts with "."` + "\n"},
		"exclude missing": {after, func(t *testing.T, s *site) { must(t, os.Remove(filepath.Join(s.upgrade, "exclude"))) }, 1, "upgrade: metadata of mysql D12-F.1.0.0 to D12-F.1.0.1: exclude is missing: an upgrade without it could destroy data\n"},
		"add_only empty":  {after, func(t *testing.T, s *site) { write(t, "\n", s.upgrade, "add_only") }, 1, `add_only has no rule: a line "- *" says that nothing is added` + "\n"},
		"pre fails":       {after, func(t *testing.T, s *site) { s.script(t, "pre", "echo not today; exit 3\n") }, 1, "upgrade: pre: /var/lib/edeploy/D12-F.1.0.1/pre: exit status 3: not today; this machine is mysql D12-F.1.0.0 as before\n"},
		"post fails":      {after, func(t *testing.T, s *site) { s.script(t, "post", "echo x >/boot/grub/grub.cfg; echo broken; exit 7\n") }, 1, "upgrade: post: /var/lib/edeploy/D12-F.1.0.1/post: exit status 7: broken; everything was put back; this machine is mysql D12-F.1.0.0 as before\n"},
		"no manifest":     {after, func(t *testing.T, s *site) { must(t, os.Remove(s.tree+"-"+after+".mtree")) }, 2, "mysql-D12-F.1.0.1.mtree: the server has no such file\n"},
		"broken manifest": {after, func(t *testing.T, s *site) { write(t, "#mtree\n./../x type=file\n", s.tree+"-"+after+".mtree") }, 2, "mysql-D12-F.1.0.1.mtree: read manifest: line 2: "},
		"file missing":    {after, func(t *testing.T, s *site) { must(t, os.Remove(filepath.Join(s.tree, "usr/bin/su"))) }, 1, "/usr/bin/su: the server has no such file: the tree of mysql D12-F.1.0.1 is not the one its manifest describes; this machine is mysql D12-F.1.0.0 as before\n"},
		"other size":      {after, func(t *testing.T, s *site) { write(t, "x", s.tree, "usr/bin/su") }, 1, "/usr/bin/su: it has 1 bytes on the server, the manifest says 7000; this machine is mysql D12-F.1.0.0 as before\n"},
		"other content":   {after, func(t *testing.T, s *site) { write(t, strings.Repeat("bad su ", 1000), s.tree, "usr/bin/su") }, 1, "this machine is mysql D12-F.1.0.0 as before\n"},
		"no boot entry":   {after, func(t *testing.T, s *site) { write(t, "custom.cfg\n", s.root, "boot/grub/grub.cfg") }, 1, "upgrade: arm the boot guard: boot/grub/grub.cfg: it has no entry that starts a kernel with an initial RAM disk and whose files are in /boot; this machine is mysql D12-F.1.0.0 as before\n"},
		"excluded in a way": {after, func(t *testing.T, s *site) {
			write(t, "/usr/bin/su/x\n", s.upgrade, "exclude")
			must(t, os.Remove(filepath.Join(s.root, "usr/bin/su")))
			write(t, "", s.root, "usr/bin/su/x")
		}, 1, "upgrade: mysql D12-F.1.0.0 to D12-F.1.0.1 is not possible: something excluded is in the way of 1 paths, the first: usr/bin/su is to become a file, but usr/bin/su/x in it is excluded\n"},
		"not installed": {after, func(t *testing.T, s *site) { must(t, os.Remove(filepath.Join(s.root, wire.ConfPath))) }, 2, ": this system was not installed by edeploy\n"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			if test.spoil != nil {
				test.spoil(t, s)
			}
			was := s.state(t)
			status, _, errs := s.call(t, "upgrade", test.to)
			if status != test.status || !strings.Contains(errs, test.want) || strings.Count(errs, "\n") != 1 {
				t.Errorf("upgrade = %d, stderr %q, want %d and %q", status, errs, test.status, test.want)
			}
			s.unchanged(t, was)
		})
	}
}

// TestMetadataOfTheTree: what the server's metadata lack comes out of the tree.
func TestMetadataOfTheTree(t *testing.T) {
	s := newSite(t)
	must(t, os.Remove(filepath.Join(s.upgrade, "exclude")))
	write(t, "/var/lib/app/\n/home/\n/tmp/\n/var/log/\n", s.tree, "var/lib/edeploy", after, "exclude")
	write(t, "#!/bin/sh\necho post of the tree; exit 100\n", s.tree, "var/lib/edeploy", after, "post")
	must(t, os.Chmod(filepath.Join(s.tree, "var/lib/edeploy", after, "post"), 0o755))
	s.publish(t)
	status, out, errs := s.call(t, "upgrade", after)
	if status != wire.RebootExitCode || errs != "" || !strings.Contains(out, "\npost of the tree\n") || !strings.HasSuffix(out, "\nA reboot is needed, says post.\n") {
		t.Errorf("upgrade = %d, stdout %q, stderr %q", status, out, errs)
	}
	s.release = newKernel
	status, out, errs = s.call(t, "rollback")
	if want := "This machine is mysql D12-F.1.0.0.\nThe running kernel 6.1.0-2-amd64 belongs to another version: reboot.\n"; status != wire.RebootExitCode || errs != "" || !strings.HasSuffix(out, want) {
		t.Errorf("rollback = %d, stdout %q, stderr %q", status, out, errs)
	}
}

func TestUpgradeJSON(t *testing.T) {
	s := newSite(t)
	s.script(t, "post", "exit 100\n")
	status, out, errs := s.call(t, "upgrade", after, "--json", "--no-reboot")
	if status != wire.RebootExitCode || !strings.Contains(errs, "Upgraded to ") {
		t.Errorf("upgrade = %d, stderr %q", status, errs)
	}
	var got struct {
		From, To     wire.ImageRef
		FetchedFiles int  `json:"fetched_files"`
		WireBytes    int  `json:"wire_bytes"`
		FetchedBytes int  `json:"fetched_bytes"`
		RebootNeeded bool `json:"reboot_needed"`
		Rebooting    bool
	}
	decode(t, out, &got)
	if got.To.Version != after || got.From.Version != before || got.FetchedFiles != 6 || got.WireBytes < got.FetchedBytes+1000 || !got.RebootNeeded || got.Rebooting {
		t.Errorf("upgrade --json = %+v\n%s", got, out)
	}
}

// TestServerGone: the server goes away in the middle of a file and comes back.
func TestServerGone(t *testing.T) {
	s := newSite(t)
	var cuts atomic.Int32
	s.handler = func(w http.ResponseWriter, r *http.Request, files http.HandlerFunc) {
		if strings.HasSuffix(r.URL.Path, "/usr/bin/su") && cuts.Add(1) <= 2 {
			w.Header().Set("Content-Length", "7000")
			fmt.Fprint(w, "new su new")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		files(w, r)
	}
	status, _, errs := s.call(t, "upgrade", after)
	if status != 0 || cuts.Load() < 3 || !strings.Contains(errs, "waiting for the server 127.0.0.1:") || !strings.Contains(errs, "the server is back after ") {
		t.Errorf("upgrade = %d after %d requests, stderr %q", status, cuts.Load(), errs)
	}
	if status, out, _ := s.call(t, "verify"); status != 0 {
		t.Errorf("verify = %d\n%s", status, out)
	}
}

// TestServerStaysAway: the machine is as before, and a later attempt goes on.
func TestServerStaysAway(t *testing.T) {
	s := newSite(t)
	s.patience = 700 * time.Millisecond
	var back atomic.Bool
	s.handler = func(w http.ResponseWriter, r *http.Request, files http.HandlerFunc) {
		if strings.HasSuffix(r.URL.Path, "/usr/bin/su") && !back.Load() {
			panic(http.ErrAbortHandler)
		}
		files(w, r)
	}
	was := s.state(t)
	status, _, errs := s.call(t, "upgrade", after)
	if status != 1 || !strings.Contains(errs, "/usr/bin/su: no answer for ") || !strings.HasSuffix(errs, "; this machine is mysql D12-F.1.0.0 as before\n") {
		t.Errorf("upgrade = %d, stderr %q", status, errs)
	}
	s.unchanged(t, was)
	if status, out, _ := s.call(t, "status"); status != 1 || !strings.Contains(out, " was interrupted before it changed anything: ") {
		t.Errorf("status = %d\n%s", status, out)
	}
	back.Store(true)
	if status, _, errs := s.call(t, "upgrade", after); status != 0 {
		t.Errorf("the second attempt = %d, stderr %q", status, errs)
	}
}

// TestTwoAtOnce: the second one is refused; pre of the first waits for a pipe.
func TestTwoAtOnce(t *testing.T) {
	s := newSite(t)
	must(t, unix.Mkfifo(filepath.Join(s.root, "tmp/go"), 0o600))
	s.script(t, "pre", "read x </tmp/go\n")
	done := make(chan string, 1)
	go func() {
		status, _, errs := s.call(t, "upgrade", after)
		done <- fmt.Sprint(status, errs)
	}()
	pipe, err := os.OpenFile(filepath.Join(s.root, "tmp/go"), os.O_WRONLY, 0) // waits for the reader
	must(t, err)
	for _, command := range [][]string{{"upgrade", after}, {"rollback"}, {"recover"}} {
		status, _, errs := s.call(t, command...)
		if status != 1 || !strings.Contains(errs, "another upgrade is running: process ") || strings.Count(errs, "\n") != 1 {
			t.Errorf("%s beside an upgrade = %d, stderr %q", command, status, errs)
		}
	}
	if status, out, errs := s.call(t, "status"); status != 0 || !strings.Contains(out, "is running: phase staged, process ") {
		t.Errorf("status beside an upgrade = %d %q %q", status, out, errs)
	}
	_, err = pipe.WriteString("go\n")
	must(t, err)
	must(t, pipe.Close())
	if got := <-done; got != "0" {
		t.Errorf("the first upgrade = %s", got)
	}
}

// killed runs an upgrade in a process and kills it in its post.
func (s *site) killed(t *testing.T) {
	t.Helper()
	fifo := filepath.Join(s.root, "tmp/go")
	s.script(t, "post", "echo x >/boot/grub/grub.cfg; echo >/tmp/go; read x </tmp/go\n")
	c := exec.CommandContext(t.Context(), os.Args[0], "upgrade", after, "--root", s.root)
	c.Env = append(os.Environ(), "EDEPLOY_TEST_RUN=1")
	must(t, c.Start())
	_, err := os.ReadFile(fifo) // waits for post
	must(t, err)
	must(t, c.Process.Kill())
	c.Wait()
	must(t, os.WriteFile(fifo, []byte("\n"), 0)) // the script ends
}

const earlyText = "The way from D12-F.1.0.0 to D12-F.1.0.1 was interrupted: D12-F.1.0.0 is restored.\nThis machine is mysql D12-F.1.0.0.\n"

func TestKilled(t *testing.T) {
	s := newSite(t)
	must(t, unix.Mkfifo(filepath.Join(s.root, "tmp/go"), 0o600))
	was := s.state(t)
	s.killed(t)
	if guard := text(t, s.root, "boot/grub/custom.cfg"); !strings.Contains(guard, "linux\t/boot/edeploy/vmlinuz-") {
		t.Errorf("the boot guard is\n%s", guard)
	}
	status, out, errs := s.call(t, "status")
	if status != 1 || errs != "" || !strings.HasSuffix(steady(out), "The upgrade from D12-F.1.0.0 to D12-F.1.0.1, begun TIME, was interrupted in phase post: end it with edeploy recover.\n") {
		t.Errorf("status = %d %q %q", status, out, errs)
	}
	for _, command := range [][]string{{"upgrade", after}, {"rollback"}} {
		if status, _, errs := s.call(t, command...); status != 1 || !strings.Contains(errs, "this upgrade was interrupted: end it with edeploy recover") {
			t.Errorf("%s after a crash = %d, stderr %q", command, status, errs)
		}
	}
	status, out, errs = s.early(t, "BOOT_IMAGE=/boot/edeploy/vmlinuz ro edeploy.recover")
	if status != wire.RebootExitCode || out != earlyText || errs != "" {
		t.Errorf("recover --early = %d %q %q", status, out, errs)
	}
	s.unchanged(t, was)
	if status, out, errs := s.early(t, "ro quiet"); status != 0 || out != "" || errs != "" {
		t.Errorf("recover --early on a machine at rest = %d %q %q", status, out, errs)
	}
}

// TestKilledTwoFileSystems recovers as the initial RAM disk finds the machine:
// /var is not mounted.
func TestKilledTwoFileSystems(t *testing.T) {
	root := t.TempDir()
	device := mountDisk(t, filepath.Join(root, "var"), 16<<20)
	s := newSiteAt(t, root)
	write(t, device+" /var ext4 defaults 0 2\n", root, "etc/fstab")
	write(t, "/etc/network/interfaces\n/etc/fstab\n/boot/grub/\n", root, wire.LocalPath)
	must(t, unix.Mkfifo(filepath.Join(root, "tmp/go"), 0o600))
	was := s.state(t)
	s.killed(t)
	unmountIdle(t, filepath.Join(root, "var"))
	status, out, errs := s.early(t, "ro edeploy.recover")
	if status != wire.RebootExitCode || out != earlyText || errs != "" {
		t.Errorf("recover --early = %d %q %q", status, out, errs)
	}
	if names, err := os.ReadDir(filepath.Join(root, "var")); err != nil || len(names) > 0 {
		t.Errorf("/var is still mounted: %v %v", names, err)
	}
	must(t, unix.Mount(device, filepath.Join(root, "var"), "ext4", 0, ""))
	s.unchanged(t, was)
}

func (s *site) early(t *testing.T, cmdline string) (status int, stdout, stderr string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "cmdline")
	must(t, os.WriteFile(file, []byte(cmdline+"\n"), 0o600))
	var out, errs strings.Builder
	p := program{args: []string{"recover", "--early", "--root", s.root}, stdout: &out, stderr: &errs, release: s.release, cmdline: file}
	return p.run(t.Context()), out.String(), errs.String()
}

// TestGuardOutlives: a guard without an upgrade must not start for ever.
func TestGuardOutlives(t *testing.T) {
	s := newSite(t)
	write(t, "# edeploy: an upgrade is changing this machine, which is to be recovered first.\n", s.root, "boot/grub/custom.cfg")
	if status, _, errs := s.early(t, "edeploy.recover"); status != wire.RebootExitCode || errs != "" {
		t.Errorf("recover --early = %d %q", status, errs)
	}
	if _, err := os.Lstat(filepath.Join(s.root, "boot/grub/custom.cfg")); err == nil {
		t.Error("the boot guard is still there")
	}
}

// TestInterrupted stops commands as ^C does; what they say of the machine is true.
func TestInterrupted(t *testing.T) {
	for name, test := range map[string]struct {
		args   []string
		at     string // what is going on: "post", or a path that is being asked for
		status int
		want   string
	}{
		"post":         {[]string{"upgrade", after}, "post", 1, "upgrade: interrupted; everything was put back; this machine is mysql D12-F.1.0.0 as before\n"},
		"stage":        {[]string{"upgrade", after}, "/usr/bin/su", 1, "upgrade: interrupted; nothing changed: run it again to go on\n"},
		"manifest":     {[]string{"upgrade", after}, ".mtree", 1, "upgrade: interrupted; nothing changed: run it again to go on\n"},
		"test-upgrade": {[]string{"test-upgrade", after}, ".mtree", 1, "test-upgrade: interrupted; nothing changed\n"},
		"list":         {[]string{"list"}, "/api/v1/images", 0, ""}, // the versions alone are an answer
		"verify":       {[]string{"verify"}, "", 2, "verify: interrupted; nothing changed\n"},
		"rollback":     {[]string{"rollback"}, "", 1, "rollback: no version before this one is kept; this machine is mysql D12-F.1.0.0 as before\n"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			fifo := filepath.Join(s.root, "tmp/go")
			must(t, unix.Mkfifo(fifo, 0o600))
			s.script(t, "post", "echo >/tmp/go; read x </tmp/go\n")
			ctx, cancel := context.WithCancel(t.Context())
			s.handler = func(w http.ResponseWriter, r *http.Request, files http.HandlerFunc) {
				if strings.HasSuffix(r.URL.Path, test.at) {
					cancel()
				}
				files(w, r)
			}
			switch test.at {
			case "":
				cancel()
			case "post":
				go func() {
					os.ReadFile(fifo)
					cancel()
				}()
			}
			was := s.state(t)
			status, _, errs := s.callContext(ctx, test.args...)
			if want := "edeploy: " + test.want; status != test.status || errs != want && test.want != "" {
				t.Errorf("%q = %d, stderr %q, want %d %q", test.args, status, errs, test.status, want)
			}
			s.unchanged(t, was)
			if name != "stage" {
				return
			}
			must(t, os.Remove(filepath.Join(s.upgrade, "post")))
			if status, _, errs := s.call(t, "upgrade", after); status != 0 {
				t.Errorf("the second attempt = %d, stderr %q", status, errs)
			}
		})
	}
}

// TestVerifyBesideUpgrade: what is compared is one version, or nothing is said.
func TestVerifyBesideUpgrade(t *testing.T) {
	s := newSite(t)
	work := transaction.Machine{Root: s.root}
	fifo := filepath.Join(s.root, "tmp/go")
	must(t, unix.Mkfifo(fifo, 0o600))
	s.script(t, "post", "echo >/tmp/go; read x </tmp/go\n")
	done := make(chan string, 1)
	err := upgrade.Undisturbed(work, func() error {
		go func() {
			status, _, errs := s.call(t, "upgrade", after)
			done <- fmt.Sprint(status, errs)
		}()
		_, err := os.ReadFile(fifo) // waits for post
		return err
	})
	if err == nil || err.Error() != "an upgrade went on meanwhile: look again when it is done" {
		t.Errorf("a look while an upgrade began = %v", err)
	}
	for _, args := range [][]string{{"verify"}, {"verify", "--json"}} {
		status, out, errs := s.call(t, args...)
		if want := "is changing this machine from mysql D12-F.1.0.0 to D12-F.1.0.1: wait until it is done\n"; status != 2 || out != "" || !strings.HasSuffix(errs, want) {
			t.Errorf("%q beside an upgrade = %d %q %q", args, status, out, errs)
		}
	}
	must(t, os.WriteFile(fifo, []byte("go\n"), 0))
	if got := <-done; got != "0" {
		t.Errorf("upgrade = %s", got)
	}
	if status, out, errs := s.call(t, "verify"); status != 0 {
		t.Errorf("verify afterwards = %d %q %q", status, out, errs)
	}
	if err := upgrade.Undisturbed(work, func() error { return nil }); err != nil {
		t.Error(err)
	}
}

// TestFullDisk has room for the machine, but not for the new version.
func TestFullDisk(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	mountDisk(t, root, 24<<20)
	s := newSiteAt(t, root)
	write(t, strings.Repeat("big ", 8<<20), s.tree, "usr/share/big")
	s.publish(t)
	was := s.state(t)
	status, _, errs := s.call(t, "upgrade", after)
	if status != 1 || !strings.Contains(errs, "too little room") || strings.Count(errs, "\n") != 1 {
		t.Errorf("upgrade = %d, stderr %q", status, errs)
	}
	t.Log(errs)
	s.unchanged(t, was)
	must(t, os.Remove(filepath.Join(s.tree, "usr/share/big")))
	s.publish(t)
	if status, _, errs := s.call(t, "upgrade", after); status != 0 {
		t.Errorf("upgrade without the big file = %d, stderr %q", status, errs)
	}
	if status, out, _ := s.call(t, "verify"); status != 0 {
		t.Errorf("verify = %d\n%s", status, out)
	}
}

func mountDisk(t *testing.T, at string, size int64) (device string) {
	t.Helper()
	needs.Root(t)
	image := filepath.Join(t.TempDir(), "disk.img")
	must(t, os.WriteFile(image, nil, 0o600))
	must(t, os.Truncate(image, size))
	run := func(argv ...string) string {
		t.Helper()
		out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
		if err != nil {
			t.Fatalf("%q: %v\n%s", argv, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	run("mkfs.ext4", "-q", "-F", image)
	device = run("losetup", "-f", "--show", image)
	t.Cleanup(func() { exec.Command("losetup", "-d", device).Run() })
	must(t, os.MkdirAll(at, 0o755))
	must(t, unix.Mount(device, at, "ext4", 0, ""))
	t.Cleanup(func() { unix.Unmount(at, unix.MNT_DETACH) })
	return device
}

// unmountIdle waits for the last process to leave a file system.
func unmountIdle(t *testing.T, at string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := unix.Unmount(at, 0)
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("unmount %s: %v", at, err)
		}
	}
}

// TestTwoFileSystems: the transaction's directory on /var is no part of the
// tree either, however the root is named.
func TestTwoFileSystems(t *testing.T) {
	for kind, named := range map[string]func(t *testing.T, root string) string{
		"absolute": func(_ *testing.T, root string) string { return root },
		"a link": func(t *testing.T, root string) string {
			link := filepath.Join(t.TempDir(), "link")
			must(t, os.Symlink(root, link))
			return link
		},
		"relative": func(t *testing.T, root string) string {
			t.Chdir(filepath.Dir(root))
			return filepath.Base(root) + "/../" + filepath.Base(root) + "/"
		},
	} {
		t.Run(kind, func(t *testing.T) {
			root := t.TempDir()
			mountDisk(t, filepath.Join(root, "var"), 16<<20)
			s := newSiteAt(t, root)
			must(t, os.Remove(filepath.Join(root, "var/lost+found")))
			s.root = named(t, root)
			play := func(args ...string) (out string) {
				t.Helper()
				status, out, errs := s.call(t, args...)
				if status != 0 {
					t.Fatalf("%q = %d\n%s%s", args, status, out, errs)
				}
				return out
			}
			play("upgrade", after)
			if _, err := os.Lstat(filepath.Join(root, "var/.edeploy")); err != nil {
				t.Error(err)
			}
			play("verify")
			play("rollback")
			play("verify")
			if out := play("test-upgrade", after); strings.Contains(out, ".edeploy") || !strings.Contains(out, " 4 deleted; ") {
				t.Errorf("a second upgrade would do\n%s", out)
			}
			play("upgrade", after)
		})
	}
}

// TestLinkedDirectories: names that were written through links of the tree, also
// absolute ones, count as the paths that they lead to.
func TestLinkedDirectories(t *testing.T) {
	s := newSite(t)
	for _, dir := range []string{s.root, s.tree} {
		write(t, "of "+dir, dir, "usr/sbin/agent.key")
		must(t, os.Symlink("usr/sbin", filepath.Join(dir, "sbin")))
		must(t, os.Mkdir(filepath.Join(dir, "data"), 0o755))
		must(t, os.Rename(filepath.Join(dir, "var/log"), filepath.Join(dir, "data/log")))
		must(t, os.Symlink("/data/log", filepath.Join(dir, "var/log")))
	}
	s.publish(t)
	must(t, os.Chmod(filepath.Join(s.root, "usr/sbin/agent.key"), 0o600))
	m, err := fstree.Walk(t.Context(), s.root, fstree.Options{Exclude: func(name string) bool {
		return name == "home/me" || strings.HasPrefix(name, "var/lib/edeploy/")
	}})
	must(t, err)
	writeManifest(t, m, filepath.Join(s.root, wire.ManifestPath))
	write(t, "shell", s.root, "usr/sbin/agent.key")
	write(t, "/etc/network/interfaces\n/boot/grub/\n/sbin/agent.key\n", s.root, wire.LocalPath)
	write(t, text(t, s.upgrade, "exclude")+"/sbin/*.key\n", s.upgrade, "exclude")
	for _, args := range [][]string{{"upgrade", after}, {"verify"}} {
		status, out, errs := s.call(t, args...)
		if status != 0 {
			t.Errorf("%q = %d\n%s%s", args, status, out, errs)
		}
		if want := "edeploy: warning: exclude: /sbin/*.key names nothing, because /sbin leads through a link: write /usr/sbin/*.key\n"; args[0] == "upgrade" && errs != want {
			t.Errorf("upgrade warns %q, want %q", errs, want)
		}
	}
	info, err := os.Stat(filepath.Join(s.root, "usr/sbin/agent.key"))
	if err != nil || info.Mode() != 0o600 || text(t, s.root, "usr/sbin/agent.key") != "shell" {
		t.Errorf("agent.key after the upgrade: %v, %v", info.Mode(), err)
	}
	if log := text(t, s.root, "data/log/edeploy/upgrade-"+before+"-"+after+".log"); !strings.Contains(log, "Upgraded to ") {
		t.Errorf("the log is %q", log)
	}
}

func TestCompletion(t *testing.T) {
	s := newSite(t)
	var out strings.Builder
	p := program{args: []string{"__complete", "--root", s.root, "upgrade", "D12"}, stdout: &out, stderr: &out}
	if status := p.run(t.Context()); status != 0 || !strings.HasPrefix(out.String(), after+"\n") {
		t.Errorf("completion = %d %q", status, out.String())
	}
	if status, script, _ := call(t, "completion", "bash"); status != 0 || !strings.Contains(script, "__start_edeploy") {
		t.Errorf("completion bash = %d, %d bytes", status, len(script))
	}
}

func TestListRefuses(t *testing.T) {
	s := newSite(t)
	must(t, os.RemoveAll(s.upgrade))
	status, out, errs := s.call(t, "list")
	if status != 1 || out != "" || errs != "edeploy: list: the server 127.0.0.1 has no upgrade of mysql D12-F.1.0.0\n" {
		t.Errorf("list = %d %q %q", status, out, errs)
	}
}

func TestHelpOfUpgrades(t *testing.T) {
	for command, words := range map[string][]string{
		"upgrade": {"--dry-run", "--no-reboot", "--no-guard", "Exit status: 0 done", "100 done", "/var/log/edeploy/upgrade-FROM-TO.log"},
		"recover": {"--early", "Exit status: 0"}, "rollback": {"Exit status: 0"}, "status": {"--json", "Exit status: 0"},
	} {
		status, out, _ := call(t, command, "--help")
		for _, word := range words {
			if status != 0 || !strings.Contains(out, word) {
				t.Errorf("%s --help does not mention %q:\n%s", command, word, out)
			}
		}
		for line := range strings.Lines(out) {
			if len(line) > 81 && !strings.HasPrefix(line, "      --") {
				t.Errorf("%s --help: a line of %d characters: %s", command, len(line), line)
			}
		}
	}
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	must(t, json.Unmarshal([]byte(text), into))
}

// What an upgrade left that was killed while it compared goes at the next one;
// what another one may be fetching right now stays.
func TestSweep(t *testing.T) {
	s := newSite(t)
	state := filepath.Join(s.root, filepath.Dir(wire.ConfPath))
	forsaken, current := filepath.Join(state, ".metadata-"+"1"), filepath.Join(state, ".metadata-"+"2")
	write(t, "/var/\n", forsaken, "exclude")
	write(t, "/var/\n", current, "exclude")
	yesterday := time.Now().Add(-24 * time.Hour)
	must(t, os.Chtimes(forsaken, yesterday, yesterday))
	if status, _, stderr := s.call(t, "upgrade", after); status != 0 {
		t.Fatalf("exit status %d: %s", status, stderr)
	}
	left, err := filepath.Glob(filepath.Join(state, ".metadata-"+"*"))
	must(t, err)
	if diff := cmp.Diff([]string{current}, left); diff != "" {
		t.Errorf("metadata being fetched (-want +got):\n%s", diff)
	}
}
