package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"edeploy/agent/internal/transaction"
	"edeploy/agent/internal/upgrade"
	"edeploy/server/wire"

	"golang.org/x/sys/unix"
)

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
