package main

import (
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"edeploy/agent/internal/installed"
	"edeploy/images/manifest"
	"edeploy/images/manifest/fstree"
	"edeploy/server/wire"

	"github.com/gokrazy/rsync/rsyncd"
)

type quiet struct{ io.Writer }

func (quiet) Close() error { return nil }

func write(t *testing.T, content string, names ...string) {
	t.Helper()
	name := filepath.Join(names...)
	must(t, os.MkdirAll(filepath.Dir(name), 0o755))
	must(t, os.WriteFile(name, []byte(content), 0o644))
}

// appliance serves an upgrade of the machine to D12-F.1.0.1: a new su, a new
// program, a new schema below excluded data. It answers the published
// metadata's directory.
func appliance(t *testing.T, root string) string {
	t.Helper()
	install, metadata, tree := t.TempDir(), t.TempDir(), t.TempDir()
	for _, dir := range []string{install, metadata} {
		must(t, os.Chmod(dir, 0o755))
	}
	write(t, "new su", tree, "usr/bin/su")
	write(t, "less", tree, "usr/bin/less")
	write(t, "2", tree, "var/lib/app/schema2")
	write(t, "shipped", tree, "var/lib/app/db")
	write(t, "D12-F.1.0.1", tree, "var/lib/edeploy/conf")
	m, err := fstree.Walk(t.Context(), tree, fstree.Options{})
	must(t, err)
	var text strings.Builder
	_, err = m.WriteTo(&text)
	must(t, err)
	write(t, text.String(), install, "D12-F.1.0.1/mysql-D12-F.1.0.1.mtree")
	to := filepath.Join(metadata, "D12-F.1.0.0/mysql/D12-F.1.0.1")
	write(t, "/var/lib/app/\n", to, "exclude")
	write(t, "+ /var/\n+ /var/**\n- *\n", to, "add_only")

	write(t, "live", root, "var/lib/app/db")
	write(t, "", root, "usr/bin/gone")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	server, err := rsyncd.NewServer([]rsyncd.Module{{Name: "install", Path: install}, {Name: "metadata", Path: metadata}},
		rsyncd.DontRestrict(), rsyncd.WithStderr(quiet{io.Discard}))
	must(t, err)
	go server.Serve(t.Context(), l)
	conf, err := installed.Machine{Root: root}.Conf()
	must(t, err)
	conf.RServ, conf.RServPort = "127.0.0.1", l.Addr().(*net.TCPAddr).Port
	must(t, os.WriteFile(filepath.Join(root, wire.ConfPath), []byte(conf.Encode()), 0o644))
	return metadata
}

func TestList(t *testing.T) {
	root := machine(t)
	appliance(t, root)
	if status, out, errs := call(t, "list", "--root", root); status != 0 || out != "D12-F.1.0.1\n" || errs != "" {
		t.Errorf("list = %d %q %q", status, out, errs)
	}
}

func TestTestUpgrade(t *testing.T) {
	root := machine(t)
	appliance(t, root)
	before, err := fstree.Walk(t.Context(), root, fstree.Options{})
	must(t, err)
	status, out, errs := call(t, "test-upgrade", "D12-F.1.0.1", "--root", root)
	if status != 0 || errs != "" {
		t.Errorf("test-upgrade = %d, stderr %q", status, errs)
	}
	for _, want := range []string{
		">f+++++++++ usr/bin/less\n",
		">fcstp..... usr/bin/su  (size 2 -> 6, mode 4755 -> 0644, time ",
		"*deleting   usr/bin/gone\n",
		">f+++++++++ var/lib/app/schema2  (add_only)\n",
		"mysql D12-F.1.0.0 -> D12-F.1.0.1: 2 new, 1 replaced, ",
		" attributes only, 1 deleted; 3 files, 0.0 MB to fetch\n",
	} {
		if !strings.Contains("\n"+out, want) {
			t.Errorf("test-upgrade printed\n%swant %q", out, want)
		}
	}
	for _, untouched := range []string{"app/db", "var/lib/edeploy"} {
		if strings.Contains(out, untouched) {
			t.Errorf("test-upgrade printed\n%swant nothing about %s", out, untouched)
		}
	}
	after, err := fstree.Walk(t.Context(), root, fstree.Options{})
	must(t, err)
	if diff := manifest.Diff(before, after); len(diff) > 0 {
		t.Errorf("test-upgrade changed the machine: %v", diff)
	}

	status, out, _ = call(t, "test-upgrade", "D12-F.1.0.1", "--root", root, "--json")
	var report struct {
		Possible bool
		Bytes    int `json:"fetch_bytes"`
		Paths    []struct {
			Path, Action string
			Pass         int
		}
	}
	must(t, json.Unmarshal([]byte(out), &report))
	if status != 0 || !report.Possible || report.Bytes != len("new su")+len("less")+len("2") || len(report.Paths) < 4 {
		t.Errorf("test-upgrade --json = %d %+v", status, report)
	}
}

func TestTestUpgradeRefuses(t *testing.T) {
	root := machine(t)
	metadata := appliance(t, root)
	for to, want := range map[string]string{
		"D12-F.9":     "test-upgrade: no such upgrade is published: the server has metadata of mysql D12-F.1.0.0 for D12-F.1.0.1",
		"../x":        `test-upgrade: version name "../x" starts with "."`,
		"D12-F.1.0.1": "mysql D12-F.1.0.0 to D12-F.1.0.1 is not possible: something excluded is in the way of 1 paths, the first: usr/bin/less is to become a file, but usr/bin/less/data in it is excluded",
	} {
		if to == "D12-F.1.0.1" {
			write(t, "/data\n/usr/bin/less/data\n", metadata, "D12-F.1.0.0/mysql/D12-F.1.0.1/exclude")
			write(t, "precious", root, "usr/bin/less/data")
		}
		status, _, errs := call(t, "test-upgrade", to, "--root", root)
		if status != 1 || !strings.Contains(errs, want) || strings.Count(errs, "\n") != 1 {
			t.Errorf("test-upgrade %s = %d, stderr %q, want %q", to, status, errs, want)
		}
	}
	if status, out, _ := call(t, "test-upgrade", "--help"); status != 0 || !strings.Contains(out, "--delete-after") || !strings.Contains(out, strconv.Itoa(1)+" it is not") {
		t.Errorf("test-upgrade --help = %d\n%s", status, out)
	}
}
