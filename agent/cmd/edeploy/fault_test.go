package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
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
