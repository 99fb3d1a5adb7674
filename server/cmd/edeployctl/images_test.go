package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"edeploy/server/api"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

// appliance is a real server and a real image service at one address, with an
// image mysql D7-F.1.0.0 that a machine was installed with, an image base that
// none has, and an upgrade to a version that is not there. It answers the
// directory that they were brought from, too.
func appliance(t *testing.T) (address, out string) {
	t.Helper()
	machines, _ := start(t)
	images := imageServer(t)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := machines
		if strings.HasPrefix(r.URL.Path, "/api/v1/images") || strings.HasPrefix(r.URL.Path, "/install") {
			host = images
		}
		httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: host}).ServeHTTP(w, r)
	}))
	t.Cleanup(web.Close)
	address, out = web.Listener.Addr().String(), t.TempDir()
	for _, ref := range []wire.ImageRef{{Role: "mysql", Version: "D7-F.1.0.0"}, {Role: "base", Version: "D7-F.1.0.0"}} {
		buildImage(t, out, ref, 100_000)
		ask(t, 0, "push", "--server", address, ref.Role, ref.Version, "--out", out)
	}
	ask(t, 0, "push-metadata", "--server", address, writeUpgrade(t, out, "D7-F.1.1.0", map[string]string{"exclude": "/etc/hosts\n", "add_only": "/var/lib\n"}))
	reportInstalled(t, machines, wire.ImageRef{Role: "mysql", Version: "D7-F.1.0.0"})
	return address, out
}

// reportInstalled lets the machine of start say that it is installed.
func reportInstalled(t *testing.T, address string, ref wire.ImageRef) {
	t.Helper()
	var report bytes.Buffer
	if err := wire.EncodeReport(&report, wire.Report{Machine: wire.Identity{MACs: []string{"02:00:00:00:00:01"}}, Image: ref,
		Step: wire.StepReboot, Status: wire.StatusInstalled}); err != nil {
		t.Fatal(err)
	}
	post(t, "http://"+address+wire.ReportPath, "application/json", &report)
}

var published = regexp.MustCompile(`20\d\d-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.0-9]*Z?`)

func TestImages(t *testing.T) {
	address, out := appliance(t)
	const want = `ROLE   VERSION     ENTRIES  SIZE    ARCHIVE  PUBLISHED            MACHINES
base   D7-F.1.0.0  2        0.1 MB  0.1 MB   TIME  0
mysql  D7-F.1.0.0  2        0.1 MB  0.1 MB   TIME  1

UPGRADE OF  FROM        TO          FILES  PUBLISHED            IMAGE
mysql       D7-F.1.0.0  D7-F.1.1.0  2      TIME  missing
`
	got, _ := ask(t, 0, "images", "--server", address)
	if diff := cmp.Diff(want, published.ReplaceAllString(got, "TIME")); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
	ref := wire.ImageRef{Role: "mysql", Version: "D7-F.1.1.0"}
	buildImage(t, out, ref, 100)
	ask(t, 0, "push", "--server", address, ref.Role, ref.Version, "--out", out)
	got, _ = ask(t, 0, "images", "--server", address)
	holds(t, got, "mysql  D7-F.1.1.0  2        0.0 MB", "UPGRADE OF", "  here\n")
}

func TestImagesJSON(t *testing.T) {
	address, out := appliance(t)
	const want = `{
  "images": [
    {
      "role": "base",
      "version": "D7-F.1.0.0",
      "complete": true,
      "entries": 2,
      "bytes": 100000,
      "archive_bytes": %d,
      "published": "TIME",
      "machines": []
    },
    {
      "role": "mysql",
      "version": "D7-F.1.0.0",
      "complete": true,
      "entries": 2,
      "bytes": 100000,
      "archive_bytes": %d,
      "published": "TIME",
      "machines": [
        "02-00-00-00-00-01"
      ]
    }
  ],
  "upgrades": [
    {
      "from": "D7-F.1.0.0",
      "role": "mysql",
      "to": "D7-F.1.1.0",
      "complete": false,
      "published": "TIME",
      "files": [
        {
          "name": "add_only",
          "bytes": 9,
          "mode": "0644",
          "sha256": "7712a949"
        },
        {
          "name": "exclude",
          "bytes": 11,
          "mode": "0644",
          "sha256": "3b7b0d52"
        }
      ]
    }
  ]
}
`
	size := func(role string) int64 {
		info, err := os.Stat(filepath.Join(out, wire.ImageRef{Role: role, Version: "D7-F.1.0.0"}.Archive()))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	got, _ := ask(t, 0, "images", "--json", "--server", address)
	got = published.ReplaceAllString(got, "TIME")
	got = regexp.MustCompile(`("sha256": "[0-9a-f]{8})[0-9a-f]{56}"`).ReplaceAllString(got, `$1"`)
	if diff := cmp.Diff(fmt.Sprintf(want, size("base"), size("mysql")), got); diff != "" {
		t.Errorf("images --json (-want +got):\n%s", diff)
	}
}

// TestEmptyAppliance: lists are lists, too, when nothing is in them.
func TestEmptyAppliance(t *testing.T) {
	var out bytes.Buffer
	if err := printInventory(&out, inventory{}); err != nil || out.String() != "ROLE  VERSION  ENTRIES  SIZE  ARCHIVE  PUBLISHED  MACHINES\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
	address, _ := appliance(t)
	ask(t, 0, "images", "remove", "mysql", "D7-F.1.0.0", "--force", "--server", address)
	ask(t, 0, "images", "remove", "base", "D7-F.1.0.0", "--server", address)
	ask(t, 0, "images", "remove-metadata", "D7-F.1.0.0", "mysql", "D7-F.1.1.0", "--server", address)
	got, _ := ask(t, 0, "images", "--json", "--server", address)
	if diff := cmp.Diff("{\n  \"images\": [],\n  \"upgrades\": []\n}\n", got); diff != "" {
		t.Errorf("images --json (-want +got):\n%s", diff)
	}
}

// TestPrintInventory: what is incomplete has no size, and nothing from the
// appliance steers the terminal.
func TestPrintInventory(t *testing.T) {
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.Local)
	all := inventory{
		Images: []storedImage{
			{pushedImage{wire.ImageRef{Role: "base", Version: "V1"}, true, 23456, 812_345_678}, 210_000_000, at, []string{"a", "b"}},
			{pushedImage{wire.ImageRef{Role: "base", Version: "V2"}, true, 3, 100}, 0, at, nil},
			{pushedImage: pushedImage{ImageRef: wire.ImageRef{Role: "web\x1b\x07", Version: "V1"}}, ArchiveBytes: 1_000_000},
		},
		Upgrades: []storedUpgrade{{From: "V1", Role: "base", To: "V2", Complete: true, Published: at, Files: make([]api.UpgradeFile, 4)}},
	}
	const want = `ROLE  VERSION  ENTRIES  SIZE      ARCHIVE   PUBLISHED            MACHINES
base  V1       23456    812.3 MB  210.0 MB  2026-11-22 10:00:00  2
base  V2       3        0.0 MB    -         2026-11-22 10:00:00  0
web   V1       -        -         1.0 MB    incomplete           0

UPGRADE OF  FROM  TO  FILES  PUBLISHED            IMAGE
base        V1    V2  4      2026-11-22 10:00:00  here
`
	var out bytes.Buffer
	if err := printInventory(&out, all); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}

// TestRemoveImage: what machines need is removed only when that is wanted.
func TestRemoveImage(t *testing.T) {
	address, out := appliance(t)
	next := wire.ImageRef{Role: "mysql", Version: "D7-F.1.1.0"}
	buildImage(t, out, next, 300_000)
	ask(t, 0, "push", "--server", address, next.Role, next.Version, "--out", out)
	remove := func(status int, wantOut, wantErr string, args ...string) {
		t.Helper()
		got, stderr := ask(t, status, append([]string{"images", "remove", "--server", address}, args...)...)
		if diff := cmp.Diff(wantOut, got); diff != "" {
			t.Errorf("remove %v (-want +got):\n%s", args, diff)
		}
		if diff := cmp.Diff(wantErr, stderr); diff != "" {
			t.Errorf("remove %v, stderr (-want +got):\n%s", args, diff)
		}
	}
	remove(0, "base D7-F.1.0.0: removed, a tree of 2 entries, 0.1 MB, and an archive of 0.1 MB\n", "", "base", "D7-F.1.0.0")
	remove(1, "", "edeployctl: base D7-F.1.0.0: no such image\n", "base", "D7-F.1.0.0")

	const installed = "warning: mysql D7-F.1.0.0 is what runs on machine 02-00-00-00-00-01\n"
	remove(1, "", installed+"edeployctl: mysql D7-F.1.0.0 is not removed: machines could not be brought onto it; --force removes it all the same\n",
		"mysql", "D7-F.1.0.0")
	served(t, "http://"+address+"/install/"+wire.ImageRef{Role: "mysql", Version: "D7-F.1.0.0"}.Manifest())

	const upgraded = "warning: mysql D7-F.1.0.0, or by now D7-F.1.1.0, is what runs on machine 02-00-00-00-00-01\n"
	remove(1, "", upgraded+"edeployctl: mysql D7-F.1.1.0 is not removed: machines could not be brought onto it; --force removes it all the same\n",
		"mysql", "D7-F.1.1.0")
	remove(0, "mysql D7-F.1.0.0: removed, a tree of 2 entries, 0.1 MB, and an archive of 0.1 MB\n", installed, "--force", "mysql", "D7-F.1.0.0")
	ask(t, 0, "forget", "--force", id, "--server", address)
	remove(0, "mysql D7-F.1.1.0: removed, a tree of 2 entries, 0.3 MB, and an archive of 0.3 MB\n", "", "mysql", "D7-F.1.1.0")
}

// TestHandedOut: an image that a live profile names is not taken away.
func TestHandedOut(t *testing.T) {
	address, out := appliance(t)
	live := wire.ImageRef{Role: "mysql", Version: "1"}
	buildImage(t, out, live, 1000)
	ask(t, 0, "push", "--server", address, "mysql", "1", "--out", out)
	_, stderr := ask(t, 1, "images", "remove", "mysql", "1", "--server", address)
	holds(t, stderr, "warning: profiles big, vm give mysql 1 to machines\n", "edeployctl: mysql 1 is not removed")

	buildImage(t, out, live, 2000)
	_, stderr = ask(t, 1, "push", "--server", address, "mysql", "1", "--out", out, "--replace")
	holds(t, stderr, "profiles big, vm give mysql 1 to machines, which would fail until the new one is there: build a new version, or use --replace --force\n")
	ask(t, 0, "config", "push", profiles(t, map[string]string{"state": "[('vm', 1)]"}), "--server", address) // big is listed no more
	_, stderr = ask(t, 1, "images", "remove", "mysql", "1", "--server", address)
	holds(t, stderr, "warning: profile vm gives mysql 1 to machines\n")
	ask(t, 0, "push", "--server", address, "mysql", "1", "--out", out, "--replace", "--force")
	ask(t, 0, "images", "remove", "mysql", "1", "--force", "--server", address)
}

// TestRemoveAddon: nor is one that all machines lay over their ramdisks.
func TestRemoveAddon(t *testing.T) {
	address, out := appliance(t)
	buildImage(t, out, wire.ImageRef{Role: "tools", Version: "1"}, 1000)
	ask(t, 0, "push", "--server", address, "tools", "1", "--out", out)
	_, stderr := ask(t, 1, "images", "remove", "tools", "1", "--server", address)
	holds(t, stderr, "warning: [BOOT] ADDONS gives tools 1 to all machines\n", "edeployctl: tools 1 is not removed")
	ask(t, 0, "images", "remove", "tools", "1", "--force", "--server", address)
}

// TestRemoveImageUnseen: when the machines cannot be looked at, an image is
// taken for needed.
func TestRemoveImageUnseen(t *testing.T) {
	address, out := imageServer(t), t.TempDir() // it knows no machines
	ref := wire.ImageRef{Role: "web", Version: "V1"}
	buildImage(t, out, ref, 1000)
	ask(t, 0, "push", "--server", address, ref.Role, ref.Version, "--out", out)
	const warning = "warning: whether machines need web V1 could not be found out: the server answers 404 Not Found\n"
	_, stderr := ask(t, 1, "images", "remove", "web", "V1", "--server", address)
	holds(t, stderr, warning, "is not removed")
	got, stderr := ask(t, 0, "images", "remove", "web", "V1", "--force", "--server", address)
	if stderr != warning {
		t.Errorf("stderr %q", stderr)
	}
	holds(t, got, "web V1: removed")
}

func TestRemoveMetadata(t *testing.T) {
	address, _ := appliance(t)
	command := []string{"images", "remove-metadata", "D7-F.1.0.0", "mysql", "D7-F.1.1.0", "--server", address}
	got, _ := ask(t, 0, command...)
	if diff := cmp.Diff("mysql from D7-F.1.0.0 to D7-F.1.1.0: removed, 2 files, 20 bytes\n", got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	got, stderr := ask(t, 1, command...)
	if diff := cmp.Diff("edeployctl: mysql D7-F.1.0.0 to D7-F.1.1.0: no such upgrade\n", got+stderr); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	got, _ = ask(t, 0, "images", "--server", address)
	if strings.Contains(got, "UPGRADE OF") || !strings.Contains(got, "mysql") {
		t.Errorf("images after it:\n%s", got)
	}
}

func TestRemoveRefusals(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"remove web", "usage: edeployctl images remove ROLE VERSION"},
		{"remove ../web V1", "starts with"},
		{"remove web V1/V2", "holds '/'"},
		{"remove-metadata V1 web", "usage: edeployctl images remove-metadata FROM ROLE TO"},
		{"remove-metadata V1 web ../V2", "starts with"},
		{"remove-metadata V1 ../web V2", "starts with"},
		{"remove web V1", "EDEPLOY_SERVER"},
		{"remove-metadata V1 web V2", "EDEPLOY_SERVER"},
		{"none", "edeployctl images has no command none"},
		{"", "EDEPLOY_SERVER"},
	} {
		status := 1
		if strings.Contains(tt.want, "edeployctl") {
			status = 2 // it is called in a wrong way
		}
		_, stderr := ask(t, status, append([]string{"images"}, strings.Fields(tt.args)...)...)
		if !strings.Contains(stderr, tt.want) {
			t.Errorf("images %s: %q, want %q", tt.args, stderr, tt.want)
		}
	}
}

func TestLeadingTo(t *testing.T) {
	upgrades := []api.Upgrade{
		{Role: "web", From: "V1", To: "V2"}, {Role: "web", From: "V2", To: "V3"}, {Role: "web", From: "V3", To: "V2"},
		{Role: "web", From: "V0", To: "V3"}, {Role: "db", From: "V9", To: "V3"}, {Role: "web", From: "V3", To: "V4"},
	}
	for _, tt := range []struct {
		version string
		want    []string
	}{
		{"V1", []string{}},
		{"V2", []string{"V1", "V3", "V0"}},
		{"V3", []string{"V2", "V0", "V1"}},
		{"V4", []string{"V3", "V2", "V0", "V1"}},
		{"V9", []string{}},
	} {
		if diff := cmp.Diff(tt.want, leadingTo(wire.ImageRef{Role: "web", Version: tt.version}, upgrades)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.version, diff)
		}
	}
}

func TestMachineList(t *testing.T) {
	var all []api.Machine
	for _, name := range strings.Fields("a b c d e f") {
		all = append(all, api.Machine{ID: name})
	}
	for n, want := range map[int]string{1: "machine a", 2: "2 machines, a, b", 5: "5 machines, a, b, c, d, e", 6: "6 machines, a, b, c, d, e, ..."} {
		if got := machineList(all[:n]); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func TestImagesCompletion(t *testing.T) {
	address, _ := appliance(t)
	for _, tt := range []struct{ args, want string }{
		{"remove", "base\nmysql\n:4\n"},
		{"remove mysql", "D7-F.1.0.0\n:4\n"},
		{"remove web", ":4\n"},
		{"remove mysql D7-F.1.0.0", ":4\n"},
		{"remove-metadata", "D7-F.1.0.0\n:4\n"},
		{"remove-metadata D7-F.1.0.0", "mysql\n:4\n"},
		{"remove-metadata D7-F.1.0.0 mysql", "D7-F.1.1.0\n:4\n"},
	} {
		words := append([]string{"__complete", "images", "--server", address}, strings.Fields(tt.args)...)
		got, _ := ask(t, 0, append(words, "")...)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.args, diff)
		}
	}
}
