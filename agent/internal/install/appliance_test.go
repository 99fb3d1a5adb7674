package install_test

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gokrazy/rsync/rsyncd"

	"edeploy/images/manifest/fstree"
	"edeploy/integration/needs"
	"edeploy/server/wire"
)

var image = wire.ImageRef{Role: "mysql", Version: "D7-F.1.0.0"}

// seedScript is the seed's vm.configure, with some more files queued.
const seedScript = `disk1 = '/dev/' + var['disk']

for disk, path in ((disk1, '/chroot'), ):
    run('parted -s %s mklabel msdos' % disk)
    run('mkfs.ext4 %s1' % disk)
    run('mkdir -p %s; mount %s1 %s' % (path, disk, path))

open('/interfaces', 'w').write('address %(ip)s\n' % var)
open('/modules', 'w').write('bonding\n')
config('/etc/hostname').write('%(hostname)s\n' % var)
grub_options('net.ifnames=0')
set_role('mysql', 'D7-F.1.0.0', disk1)
`

// appliance is the other side: an upload server and an rsync server.
type appliance struct {
	t       *testing.T
	tree    string // VERSION/ROLE below the rsync module
	install string // the rsync module
	addons  string // a directory of add-ons; "": there are none
	http    *httptest.Server
	rsync   string

	mu       sync.Mutex
	script   string
	refusal  string
	away     int // so many uploads get 503
	deaf     bool
	order    *wire.WipeOrder // nil: nobody is to be wiped
	keys     []int           // statuses for who asks for the keys, in turn; the last one stays
	asked    int             // for the keys, so often
	reports  []wire.Report
	failures []string
	logs     map[string]string
}

func newAppliance(t *testing.T) *appliance {
	t.Helper()
	needs.Program(t, "rsync")
	a := &appliance{t: t, install: t.TempDir(), script: seedScript, logs: map[string]string{}}
	a.tree = filepath.Join(a.install, image.Tree())
	a.makeTree()
	a.publish()
	a.http = httptest.NewServer(http.HandlerFunc(a.serve))
	t.Cleanup(a.http.Close)
	a.rsync = a.serveRsync()
	return a
}

func (a *appliance) makeTree() {
	files := map[string]string{
		"usr/sbin/grub-install": "loader", "usr/sbin/grub-mkconfig": "config", "boot/vmlinuz-6.1": "kernel",
		"etc/hostname": "mysql\n", "etc/fstab": "# none\n", "etc/modules": "loop\n", "etc/network/interfaces": "auto lo\n",
		"etc/shadow": "root:*:\n", "usr/bin/passwd": "suid", "usr/bin/copy": "two names", "var/lib/mysql/data": strings.Repeat("data", 50_000),
	}
	for name, content := range files {
		p := filepath.Join(a.tree, name)
		a.must(errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(content), 0o644)))
	}
	a.must(errors.Join(
		os.Chmod(filepath.Join(a.tree, "usr/bin/passwd"), 0o755|os.ModeSetuid),
		os.Chmod(filepath.Join(a.tree, "etc/shadow"), 0o600),
		os.Link(filepath.Join(a.tree, "usr/bin/copy"), filepath.Join(a.tree, "usr/bin/copy2")),
		os.Symlink("usr/sbin", filepath.Join(a.tree, "sbin")),
		os.MkdirAll(filepath.Join(a.tree, "proc"), 0o555),
		os.MkdirAll(filepath.Join(a.tree, "tmp"), 0o777|os.ModeSticky),
		os.Chmod(filepath.Join(a.tree, "tmp"), 0o777|os.ModeSticky),
	))
	old := time.Date(2020, 5, 6, 7, 8, 9, 123456789, time.UTC)
	a.must(filepath.WalkDir(a.tree, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.Type()&os.ModeSymlink != 0 {
			return err
		}
		return os.Chtimes(p, old, old)
	}))
}

// publish writes the manifest of the tree.
func (a *appliance) publish() {
	m, err := fstree.Walk(a.t.Context(), a.tree, fstree.Options{})
	a.must(err)
	f, err := os.Create(filepath.Join(a.install, image.Manifest()))
	a.must(err)
	_, err = m.WriteTo(f)
	a.must(errors.Join(err, f.Close()))
}

func (a *appliance) must(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}

type silent struct{}

func (silent) Printf(string, ...any)    {}
func (silent) Output(int, string) error { return nil }

func (a *appliance) serveRsync() string {
	srv, err := rsyncd.NewServer([]rsyncd.Module{{Name: "install", Path: a.install}}, rsyncd.DontRestrict(), rsyncd.WithLogger(silent{}))
	a.must(err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	a.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	a.t.Cleanup(func() { cancel(); l.Close() })
	go srv.Serve(ctx, l)
	return l.Addr().String()
}

func (a *appliance) serve(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case r.URL.Path == wire.ReportPath:
		a.report(w, r)
	case r.URL.Path == wire.WipePath:
		a.orderWipe(w, r)
	case strings.HasPrefix(r.URL.Path, wire.KeysPath):
		a.asked++
		w.WriteHeader(a.keys[min(a.asked, len(a.keys))-1])
		io.WriteString(w, "keys")
	case strings.HasPrefix(r.URL.Path, "/boot/file/addons/"):
		http.ServeFile(w, r, filepath.Join(a.addons, filepath.Base(r.URL.Path)))
	case strings.HasPrefix(r.URL.Path, "/install/"):
		a.list(w, r)
	case a.away > 0:
		a.away--
		http.Error(w, wire.Refusal("starting"), http.StatusServiceUnavailable)
	default:
		a.upload(w, r)
	}
}

func (a *appliance) report(w http.ResponseWriter, r *http.Request) {
	rep, err := wire.DecodeReport(r.Body)
	if err != nil {
		a.t.Error(err)
	}
	if a.deaf {
		http.Error(w, "busy", http.StatusServiceUnavailable)
		return
	}
	a.reports = append(a.reports, rep)
}

// orderWipe answers a machine that asks whether it is to erase its disks.
func (a *appliance) orderWipe(w http.ResponseWriter, r *http.Request) {
	var is wire.Identity
	if err := json.NewDecoder(r.Body).Decode(&is); err != nil || len(is.MACs) != 1 {
		a.t.Errorf("%+v asks: %v", is, err)
	}
	if a.order == nil {
		http.Error(w, `{"error": "it was taken back"}`, http.StatusConflict)
		return
	}
	if err := json.NewEncoder(w).Encode(a.order); err != nil {
		a.t.Error(err)
	}
}

// list answers the names in a directory of the rsync module.
func (a *appliance) list(w http.ResponseWriter, r *http.Request) {
	entries, err := os.ReadDir(filepath.Join(a.install, strings.TrimPrefix(r.URL.Path, "/install/")))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	for _, e := range entries {
		io.WriteString(w, e.Name()+map[bool]string{true: "/"}[e.IsDir()]+"\n")
	}
}

func (a *appliance) upload(w http.ResponseWriter, r *http.Request) {
	file, header, err := r.FormFile("file")
	if err != nil {
		a.t.Error(err)
		return
	}
	switch {
	case strings.HasSuffix(header.Filename, ".log.gz"):
		z, err := gzip.NewReader(file)
		if err != nil {
			a.t.Error(err)
			return
		}
		text, _ := io.ReadAll(z)
		a.logs[header.Filename] = string(text)
	case r.FormValue("failure") != "":
		if n := len(a.reports); !a.deaf && (n == 0 || a.reports[n-1].Status != wire.StatusFailed) {
			a.t.Error("a profile is given back before it was reported why")
		}
		a.failures = append(a.failures, r.FormValue("failure"))
	case a.refusal != "":
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, wire.Refusal(a.refusal))
	default:
		io.WriteString(w, wire.Configuration{Profile: "vm", Script: a.script,
			Var: "{'disk': 'vda', 'ip': '192.168.122.3', 'hostname': 'host03', 'used': 1}"}.Encode())
	}
}

func (a *appliance) told() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var got []string
	for _, r := range a.reports {
		if r.Status != wire.StatusProgress {
			got = append(got, fmt.Sprint(r.Step, " ", r.Status))
		}
	}
	return got
}

func (a *appliance) last() wire.Report {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.reports) == 0 {
		return wire.Report{}
	}
	return a.reports[len(a.reports)-1]
}

// republish changes the manifest's text.
func (a *appliance) republish(change func(string) string) {
	file := filepath.Join(a.install, image.Manifest())
	text, err := os.ReadFile(file)
	a.must(err)
	changed := change(string(text))
	if changed == string(text) {
		a.t.Fatal("the manifest did not change")
	}
	a.must(os.WriteFile(file, []byte(changed), 0o644))
}
