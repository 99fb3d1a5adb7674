package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"edeploy/images/manifest"
	"edeploy/images/manifest/fstree"
	"edeploy/integration/needs"
	"edeploy/server/wire"

	"github.com/gokrazy/rsync/rsyncd"
)

// TestMain lets a test run the program as a process of its own, which it can
// kill.
func TestMain(m *testing.M) {
	if os.Getenv("EDEPLOY_TEST_RUN") != "" {
		main()
	}
	os.Exit(m.Run())
}

const (
	before = "D12-F.1.0.0"
	after  = "D12-F.1.0.1"

	oldKernel = "6.1.0-1-amd64"
	newKernel = "6.1.0-2-amd64"
)

// menu is GRUB's.
func (*site) menu(release string) string {
	return "menuentry 'Debian' {\n\tsearch --set=root --fs-uuid 1\n\tlinux /boot/vmlinuz-" + release + " root=UUID=1 ro\n\tinitrd /boot/initrd.img-" +
		release + "\n}\nsource $prefix/custom.cfg\n"
}

// site is an installed machine of mysql D12-F.1.0.0 and a server with an
// upgrade to D12-F.1.0.1.
type site struct {
	root     string // of the machine
	tree     string // of D12-F.1.0.1 on the server
	upgrade  string // its metadata
	patience time.Duration
	release  string
	proc     string
	identity *wire.Identity

	// handler stands before the files; it may do something else.
	handler func(w http.ResponseWriter, r *http.Request, files http.HandlerFunc)
	web     *httptest.Server
}

func newSite(t *testing.T) *site { return newSiteAt(t, t.TempDir()) }

func newSiteAt(t *testing.T, root string) *site {
	t.Helper()
	needs.Root(t)
	install, metadata := t.TempDir(), t.TempDir()
	s := &site{root: root, tree: filepath.Join(install, after, "mysql"), upgrade: filepath.Join(metadata, before, "mysql", after), patience: 5 * time.Second, release: oldKernel}
	for _, dir := range []string{install, metadata} {
		must(t, os.Chmod(dir, 0o755))
	}
	first := t.TempDir()
	plant(t, first)
	copyTree(t, first, s.root)
	copyTree(t, first, s.tree)
	copyTree(t, first, filepath.Join(install, before, "mysql"))
	s.change(t)
	s.publish(t)
	write(t, "/var/lib/app/\n/home/\n/tmp/\n/var/log/\n/etc/shadow*\n", s.upgrade, "exclude")
	write(t, "+ /var/\n+ /var/**\n- *\n", s.upgrade, "add_only")
	s.serve(t, install, metadata)
	s.install(t, first)
	return s
}

// plant makes a small tree in which shell scripts run.
func plant(t *testing.T, dir string) {
	t.Helper()
	must(t, os.Chmod(dir, 0o755))
	shell, err := filepath.EvalSymlinks("/bin/sh")
	must(t, err)
	out, err := exec.Command("ldd", shell).Output()
	must(t, err)
	copyFile(t, shell, filepath.Join(dir, "bin/sh"))
	for _, lib := range regexp.MustCompile(`/\S+`).FindAllString(string(out), -1) {
		copyFile(t, lib, filepath.Join(dir, lib))
	}
	write(t, "su", dir, "usr/bin/su")
	must(t, os.Chmod(filepath.Join(dir, "usr/bin/su"), 0o755|os.ModeSetuid))
	write(t, "gone", dir, "usr/bin/gone")
	write(t, "same", dir, "usr/share/same")
	write(t, "Role mysql\nVersion "+before+"\n", dir, "etc/motd")
	write(t, "auto lo\n", dir, "etc/network/interfaces")
	write(t, "root:x:0:0::/root:/bin/sh\n", dir, "etc/passwd")
	write(t, "root:x:0:\nsudo:x:27:\n", dir, "etc/group")
	write(t, "root:*:19000:0:99999:7:::\n", dir, "etc/shadow")
	must(t, os.Chmod(filepath.Join(dir, "etc/shadow"), 0o640))
	write(t, "shipped", dir, "var/lib/app/db")
	write(t, "old kernel", dir, "boot/vmlinuz-"+oldKernel)
	write(t, "old initrd", dir, "boot/initrd.img-"+oldKernel)
	for _, name := range []string{"tmp", "home", "var/log", "var/lib/edeploy", "boot/grub", "lib/modules/" + oldKernel} {
		must(t, os.MkdirAll(filepath.Join(dir, name), 0o755))
	}
}

// change makes the new version of the tree.
func (s *site) change(t *testing.T) {
	t.Helper()
	write(t, strings.Repeat("new su ", 1000), s.tree, "usr/bin/su")
	must(t, os.Chmod(filepath.Join(s.tree, "usr/bin/su"), 0o755|os.ModeSetuid))
	must(t, os.Remove(filepath.Join(s.tree, "usr/bin/gone")))
	write(t, strings.Repeat("odd ", 1000), s.tree, "usr/share/a\nb\xff 100%?#")
	write(t, "same", s.tree, "usr/share/copied") // its content is on the disk
	write(t, "2", s.tree, "var/lib/app/schema2")
	write(t, "shipped anew", s.tree, "var/lib/app/db")
	write(t, "Role mysql\nVersion "+after+"\n", s.tree, "etc/motd")
	write(t, "auto eth0\n", s.tree, "etc/network/interfaces")
	write(t, "root:x:0:0::/root:/bin/sh\nmysql:x:450:450::/nonexistent:/bin/false\n", s.tree, "etc/passwd")
	write(t, "root:x:0:\nsudo:x:27:\nmysql:x:450:\n", s.tree, "etc/group")
	write(t, "root:*:19000:0:99999:7:::\nmysql:!:19000::::::\n", s.tree, "etc/shadow")
	for _, name := range []string{"boot/vmlinuz-", "boot/initrd.img-", "lib/modules/"} {
		must(t, os.Rename(filepath.Join(s.tree, name+oldKernel), filepath.Join(s.tree, name+newKernel)))
	}
}

// publish describes the tree on the server.
func (s *site) publish(t *testing.T) {
	t.Helper()
	m, err := fstree.Walk(t.Context(), s.tree, fstree.Options{})
	must(t, err)
	writeManifest(t, m, filepath.Join(filepath.Dir(s.tree), "mysql-"+after+".mtree"))
}

func writeManifest(t *testing.T, m *manifest.Manifest, file string) {
	t.Helper()
	var text bytes.Buffer
	_, err := m.WriteTo(&text)
	must(t, err)
	must(t, os.WriteFile(file, text.Bytes(), 0o644))
}

// serve serves both over rsync, and files over HTTP as the appliance does.
func (s *site) serve(t *testing.T, install, metadata string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	daemon, err := rsyncd.NewServer([]rsyncd.Module{{Name: "install", Path: install}, {Name: "metadata", Path: metadata}},
		rsyncd.DontRestrict(), rsyncd.WithStderr(quiet{io.Discard}))
	must(t, err)
	go daemon.Serve(t.Context(), l)
	files, err := os.OpenRoot(install)
	must(t, err)
	s.web = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.handler != nil {
			s.handler(w, r, serveFiles(files))
			return
		}
		serveFiles(files)(w, r)
	}))
	t.Cleanup(s.web.Close)
	u, err := url.Parse(s.web.URL)
	must(t, err)
	port, err := strconv.Atoi(u.Port())
	must(t, err)
	conf := wire.Installed{Image: wire.ImageRef{Role: "mysql", Version: before}, Profile: "vm", Serv: u.Hostname(), HTTPPort: port,
		RServ: "127.0.0.1", RServPort: l.Addr().(*net.TCPAddr).Port, RPath: "install"}
	write(t, conf.Encode(), s.root, wire.ConfPath)
}

func serveFiles(root *os.Root) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/v1/images" {
			fmt.Fprintf(w, `[{"role":"mysql","version":%q,"complete":true,"entries":31,"bytes":4000000,"published":"2026-11-22T10:00:00Z"}]`, after)
			return
		}
		f, err := root.Open(strings.TrimPrefix(path.Clean("/"+r.URL.Path), "/install/"))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		defer f.Close()
		http.ServeContent(w, r, "", time.Time{}, f)
	}
}

// install makes the machine what the agent leaves: with files of its own and
// live data.
func (s *site) install(t *testing.T, first string) {
	t.Helper()
	write(t, "auto eth7\n", s.root, "etc/network/interfaces")
	write(t, "/etc/network/interfaces\n/boot/grub/\n", s.root, wire.LocalPath)
	write(t, "/etc/hosts\n/var/lib/app/\n", s.root, "var/lib/edeploy", before, "exclude") // as mkrole puts it into the tree
	write(t, "live", s.root, "var/lib/app/db")
	write(t, "mine", s.root, "home/me/file")
	write(t, s.menu(newKernel)+s.menu(oldKernel), s.root, "boot/grub/grub.cfg")
	m, err := fstree.Walk(t.Context(), first, fstree.Options{})
	must(t, err)
	writeManifest(t, m, filepath.Join(s.root, wire.ManifestPath))
	must(t, fstree.Apply(t.Context(), m, s.root, fstree.Options{Exclude: func(name string) bool { // times of directories
		return name == "var/lib/app" || name == "home" || name == "boot/grub" || name == "etc/network/interfaces" || name == "var/lib/edeploy"
	}}))
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	must(t, os.MkdirAll(to, 0o755))
	if out, err := exec.Command("cp", "-a", from+"/.", to).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v\n%s", err, out)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	must(t, err)
	must(t, os.MkdirAll(filepath.Dir(to), 0o755))
	must(t, os.WriteFile(to, content, 0o755))
}

// script puts a script into the metadata.
func (s *site) script(t *testing.T, name, text string) {
	t.Helper()
	write(t, "#!/bin/sh\n"+text, s.upgrade, name)
	must(t, os.Chmod(filepath.Join(s.upgrade, name), 0o755))
}

// call runs the program on the machine.
func (s *site) call(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	return s.callContext(t.Context(), args...)
}

func (s *site) callContext(ctx context.Context, args ...string) (status int, stdout, stderr string) {
	var out, errs bytes.Buffer
	p := program{args: append(args, "--root", s.root), stdout: &out, stderr: &errs, patience: s.patience, release: s.release, proc: s.proc, identity: s.identity}
	status = p.run(ctx)
	return status, out.String(), errs.String()
}

// state describes the machine, but for what an attempt may leave: its log, the
// metadata, what is staged.
func (s *site) state(t *testing.T) *manifest.Manifest {
	t.Helper()
	m, err := fstree.Walk(t.Context(), s.root, fstree.Options{Exclude: func(name string) bool {
		return path.Base(name) == ".edeploy" || name == "var/log" || name == "tmp/go" || strings.HasPrefix(name, "var/lib/edeploy/D12") || name == "lost+found"
	}})
	must(t, err)
	for i := range m.Entries {
		if e := &m.Entries[i]; e.Path == "." || e.Path == "var/lib/edeploy" {
			e.ModTime = time.Time{}
		}
	}
	return m
}

// unchanged compares with a state from before.
func (s *site) unchanged(t *testing.T, was *manifest.Manifest) {
	t.Helper()
	if diff := manifest.Diff(was, s.state(t)); len(diff) > 0 {
		t.Errorf("the machine changed: %v", diff)
	}
}

// times, sizes with headers, and ports are never the same twice.
var changing = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`\d+\.\d+ s`), "N s"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "SERVER"},
	{regexp.MustCompile(`\d\d\d\d-\d\d-\d\d \d\d:\d\d(:\d\d)?`), "TIME"},
}

func steady(text string) string {
	for _, c := range changing {
		text = c.pattern.ReplaceAllString(text, c.with)
	}
	return text
}
