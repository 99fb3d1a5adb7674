// Package install tells how a blank machine comes to run its role, and what
// happens when something goes wrong on the way.
package install

import (
	"bytes"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"edeploy/images/manifest"
	"edeploy/images/manifest/archive"
	"edeploy/integration/lab"
	"edeploy/integration/rack"
	"edeploy/integration/rack/racktest"
	"edeploy/server/wire"
)

// twoDisks is the seed's own profile: the root on one disk, /var on another.
func twoDisks(r *racktest.Rack) map[string]string {
	files := rack.VM("base", racktest.Base.Version, r.Key)
	files["vm.specs"] = `[
 ('disk', '$disk1', 'size', 'gt(2)'),
 ('disk', '$disk2', 'size', 'gt(0)'),
 ('network', '$eth', 'ipv4', 'network(10.0.3.0/24)'),
 ('network', '$eth', 'serial', '$mac'),
]
`
	files["vm.configure"] = `disk1 = '/dev/' + var['disk1']
disk2 = '/dev/' + var['disk2']

for disk, path in ((disk1, '/chroot'), (disk2, '/chroot/var')):
    run('parted -s %s mklabel msdos' % disk)
    run('parted -s %s mkpart primary ext2 0%% 100%%' % disk)
    run('mkfs.ext4 -q %s1' % disk)
    run('mkdir -p %s; mount %s1 %s' % (path, disk, path))
` + rack.Settings(r.Key) + `
set_role('base', '` + racktest.Base.Version + `', disk1)
`
	return files
}

// A blank machine with two disks is installed, runs its role, is equal to the
// manifest, and boots its own disk from then on although it asks the network
// first.
func TestInstall(t *testing.T) {
	r := racktest.Start(t)
	r.Configure(twoDisks(r))
	nothingOnTheOperatorsCard(t, r)

	blank := rack.Blank{Name: "node", Disks: []int64{3e9, 1e9}}
	vm := r.Power(blank)
	r.AwaitState(vm, "installed", 6*time.Minute)
	r.Expect(vm, 3*time.Minute, `node10 login:`)
	state, cmdb := r.ConfigFile("state"), r.ConfigFile("vm.cmdb")
	verify(t, r.SSH(vm, "edeploy verify; echo exit $?"))

	for _, look := range []struct{ what, command, want string }{
		{"role", "edeploy role; edeploy version; edeploy profile", `^base\nD12-F\.1\.0\.0\nvm\n$`},
		{"/var is on the second disk", "findmnt -n -o SOURCE /var", `^/dev/vdb1\n$`},
		{"suid bits", "stat -c '%a %U' /usr/bin/su /usr/bin/passwd", `^4755 root\n4755 root\n$`},
		{"su for a normal user", "useradd -m ann && echo ann:secret | chpasswd && su ann -c 'echo secret | su ann -c id'", `\(ann\)`},
		{"ping for a normal user", "su ann -c 'ping -c 1 -W 5 10.0.3.1'", ` 1 received`},
		{"no unit failed", "systemctl --failed --no-legend --plain; true", `^$`},
	} {
		if got := r.SSH(vm, look.command); !regexp.MustCompile(look.want).MatchString(got) {
			t.Errorf("%s: %s\n got: %q\nwant: %s", look.what, look.command, got, look.want)
		}
	}

	if err := vm.Kill(); err != nil {
		t.Fatal(err)
	}
	vm = r.Power(blank)
	r.Expect(vm, 2*time.Minute, `node10 login:`)
	if diff := cmp.Diff(state, r.ConfigFile("state")); diff != "" {
		t.Errorf("booting the installed machine changed state (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(cmdb, r.ConfigFile("vm.cmdb")); diff != "" {
		t.Errorf("booting the installed machine changed the CMDB (-before +after):\n%s", diff)
	}
}

func verify(t *testing.T, answer string) {
	t.Helper()
	t.Logf("edeploy verify:\n%s", answer)
	if !strings.HasSuffix(answer, "exit 0\n") {
		t.Errorf("edeploy verify found differences:\n%s", answer)
	}
}

// nothingOnTheOperatorsCard proves that the appliance serves on the
// provisioning card only.
func nothingOnTheOperatorsCard(t *testing.T, r *racktest.Rack) {
	t.Helper()
	for _, port := range []int{80, 873, 8181} {
		c, err := net.DialTimeout("tcp", r.Appliance.Forwarded(port), 5*time.Second)
		if err != nil {
			continue
		}
		// QEMU takes the connection before it knows whether the guest does:
		// what counts is that nobody ever answers.
		c.SetDeadline(time.Now().Add(5 * time.Second))
		c.Write([]byte("GET /api/v1/version HTTP/1.0\r\n\r\n"))
		if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Errorf("the appliance answers on port %d of the operator's card", port)
		}
		c.Close()
	}
}

// Three machines are switched on at once; there is one place for a db. They get
// their trees as HTTP archives.
func TestThreeMachines(t *testing.T) {
	r := racktest.Start(t)
	files := rack.VM("base", racktest.Base.Version, r.Key)
	for _, name := range []string{"db", "web"} {
		files[name+".specs"], files[name+".configure"] = files["vm.specs"], files["vm.configure"]+rack.ByArchive
	}
	files["db.cmdb"], files["web.cmdb"] = rack.CMDB(10, 12), rack.CMDB(20, 29)
	files["state"] = "[('db', 1), ('web', '*')]\n"
	for name := range files {
		if strings.HasPrefix(name, "vm.") {
			delete(files, name)
		}
	}
	r.Configure(files)

	var machines []*lab.VM
	for _, name := range []string{"one", "two", "three"} {
		machines = append(machines, r.Power(rack.Blank{Name: name, MemoryMB: 768}))
	}
	owner := map[netip.Addr]string{}
	profiles := map[string]int{}
	for _, vm := range machines {
		m := r.AwaitState(vm, "installed", 12*time.Minute)
		address, err := r.Address(t.Context(), vm)
		if err != nil {
			t.Fatal(err)
		}
		if other, taken := owner[address]; taken {
			t.Errorf("%s and %s both have the address %s", vm.Name(), other, address)
		}
		owner[address] = vm.Name()
		profiles[m.Allocation.Profile]++
		r.Expect(vm, time.Second, `MB, from http://10\.0\.3\.1`)
		// Its work is done; the others get the processor.
		if err := vm.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(map[string]int{"db": 1, "web": 2}, profiles); diff != "" {
		t.Errorf("profiles (-want +got):\n%s", diff)
	}
	if got := r.ConfigFile("state"); !strings.Contains(got, "('db', 0)") {
		t.Errorf("state = %s, want no db left", got)
	}
}

// In mid-transfer the wire is cut and mended, and then the appliance loses
// power and comes back: the agent resumes both times, the installation
// finishes, and no count and no CMDB entry is lost or taken twice.
func TestInterruptions(t *testing.T) {
	r := racktest.Start(t)
	files := rack.VM("base", racktest.Base.Version, r.Key)
	files["state"] = "[('vm', 5)]\n"
	r.Configure(files)
	vm := r.Power(rack.Blank{Name: "node"})
	r.Expect(vm, 3*time.Minute, `transfer: role base`)
	wire := vm.Port(0)
	start := wire.Counters().ReceivedBytes

	received(t, wire, start+60e6)
	wire.Cut()
	r.Expect(vm, 2*time.Minute, interrupted)
	wire.Restore()

	received(t, wire, wire.Counters().ReceivedBytes+60e6)
	if err := r.Appliance.Kill(); err != nil {
		t.Fatal(err)
	}
	r.Expect(vm, 2*time.Minute, interrupted)
	r.PowerAppliance()

	r.AwaitState(vm, "installed", 6*time.Minute)
	tree, err := manifest.ReadFile(filepath.Join("..", "..", "out", "install", racktest.Base.Manifest()))
	if err != nil {
		t.Fatal(err)
	}
	if all, want := wire.Counters().ReceivedBytes-start, uint64(tree.TotalBytes()); all > want+160e6 {
		t.Errorf("%d MB crossed the wire for a tree of %d MB: the transfer did not resume", all/1e6, want/1e6)
	}
	if got := r.ConfigFile("state"); !strings.Contains(got, "('vm', 4)") {
		t.Errorf("state = %s, want one count taken", got)
	}
	if used := strings.Count(r.ConfigFile("vm.cmdb"), "'used': 1"); used != 1 {
		t.Errorf("%d CMDB entries are used, want 1", used)
	}
}

// interrupted is what the agent's console says when a transfer stops and is
// tried again.
const interrupted = `transfer: .*(waiting|again|retry)`

// received waits until so many bytes in all have come to a port.
func received(t *testing.T, port *lab.Port, bytes uint64) {
	t.Helper()
	ctx, cancel := lab.Deadline(t.Context(), 3*time.Minute)
	defer cancel()
	for port.Counters().ReceivedBytes < bytes {
		if err := port.AwaitBytes(ctx, port.Counters().SentBytes+bytes); err != nil {
			t.Fatal(err)
		}
	}
}

// What an operator gets wrong gives one clear sentence on the machine's
// console and in the appliance's answer, and takes nothing.
func TestMistakes(t *testing.T) {
	r := racktest.Start(t)
	pushes(t, r)
	good := rack.VM("base", racktest.Base.Version, r.Key)
	good["state"] = "[('vm', 5)]\n"
	with := func(name, old, new string) map[string]string {
		files := maps.Clone(good)
		files[name] = strings.ReplaceAll(files[name], old, new)
		return files
	}
	var failed *lab.VM
	for _, test := range []struct {
		name  string
		files map[string]string
		disk  int64
		want  string
		short bool // make test has time for it
	}{
		{"no such role", with("vm.configure", "set_role('base'", "set_role('nosuch'"), 3e9, `role nosuch version D12-F\.1\.0\.0 does not exist`, true},
		{"disk too small", with("vm.specs", "gt(1)", "ge(0)"), 250e6, `(too small|does not fit|needs)`, true},
		{"unknown variable", with("vm.configure", "var['disk']", "var['disk2']"), 3e9, `vm\.configure:1.*disk2`, true},
		{"no match", with("vm.specs", "gt(1)", "gt(400)"), 3e9, `gt\(400\)`, false},
		{"nothing left", with("state", "5", "0"), 3e9, `No more role available`, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if !test.short {
				long(t)
			}
			r.Configure(test.files, "--force") // what is wrong is to be seen on the console
			vm := r.Power(rack.Blank{Name: strings.ReplaceAll(test.name, " ", "-"), Disks: []int64{test.disk}})
			r.Expect(vm, 3*time.Minute, test.want)
			r.AwaitState(vm, "failed", time.Minute)
			failed = vm
			holdsNothing(t, r, test.files["state"])
			if err := vm.Kill(); err != nil {
				t.Fatal(err)
			}
		})
	}

	t.Run("rescue", func(t *testing.T) { rescue(t, r.In(t), failed, with("authorized_keys", "", r.Key.Authorized)) })

	was := r.ConfigFile("vm.specs")
	err := r.Rack.Configure(t.Context(), with("vm.specs", "'gt(1)'),", "'gt(1)')"))
	if err == nil || !strings.Contains(err.Error(), "vm.specs:3:2: error: a comma is missing") {
		t.Errorf("pushing a specs file without a comma: %v, want it refused with file, line and column", err)
	}
	if got := r.ConfigFile("vm.specs"); got != was {
		t.Errorf("vm.specs = %q after a refused push, want it as it was: %q", got, was)
	}
}

// holdsNothing waits until the counts are as they were and no CMDB entry is
// used: a machine says first why it failed, and gives back then.
func holdsNothing(t *testing.T, r *racktest.Rack, state string) {
	t.Helper()
	ctx, cancel := lab.Deadline(t.Context(), time.Minute)
	defer cancel()
	for {
		got, used := r.ConfigFile("state"), strings.Count(r.ConfigFile("vm.cmdb"), "'used'")
		if got == state && used == 0 {
			return
		}
		select {
		case <-ctx.Done():
			t.Errorf("state = %q, want it as it was: %q; %d CMDB entries are used, want none", got, state, used)
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// rescue logs in to a machine whose installation failed, by ssh, and finds its
// disk as it was.
func rescue(t *testing.T, r *racktest.Rack, failed *lab.VM, files map[string]string) {
	r.Configure(files)
	if out, err := r.Ctl(t.Context(), "rescue", failed.MAC(0)); err != nil {
		t.Fatal(out, err)
	}
	vm := r.Power(rack.Blank{Name: failed.Name()})
	found := r.Expect(vm, 2*time.Minute, `ssh root@(10\.0\.3\.\d+) opens a shell here, too \(SHA256:`)
	got, err := r.Rack.SSH(t.Context(), r.Key, netip.MustParseAddr(found[1]), "grep -o RESCUE=1 /proc/cmdline; agent detect | grep -c '\"vda\"'; head -c 4096 /dev/vda | tr -d '\\0' | wc -c")
	if err != nil || !regexp.MustCompile(`^RESCUE=1\n[1-9]\d*\n0\n$`).MatchString(got) {
		t.Errorf("%v, the machine says %q", err, got)
	}
	if err := vm.Kill(); err != nil {
		t.Fatal(err)
	}
}

// pushes proves that an image is visible when it is complete and verified, and
// not before.
func pushes(t *testing.T, r *racktest.Rack) {
	t.Helper()
	ref, out := wire.ImageRef{Role: "web", Version: "V1"}, t.TempDir()
	archive, other := pack(t, 'a'), pack(t, 'b')
	for _, try := range []struct {
		manifest []byte
		want     string // of edeployctl's words; empty: it ends well
		status   int
	}{
		{other.manifest, "does not hold what the manifest says", http.StatusNotFound},
		{archive.manifest, "", http.StatusOK},
	} {
		write(t, filepath.Join(out, ref.Archive()), archive.tar)
		write(t, filepath.Join(out, ref.Manifest()), try.manifest)
		said, err := r.Ctl(t.Context(), "push", filepath.Join(out, ref.Archive()))
		if !strings.Contains(said, try.want) || (err == nil) != (try.want == "") {
			t.Errorf("push = %v, %q, want %q", err, said, try.want)
		}
		for _, path := range []string{ref.Archive(), ref.Manifest()} {
			res, err := http.Get(r.Server() + "/install/" + path)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != try.status {
				t.Errorf("after the push that wants %q: GET /install/%s: %s, want %d", try.want, path, res.Status, try.status)
			}
		}
	}
}

// packed is an image.
type packed struct{ tar, manifest []byte }

// pack makes an image of one file of 10 MB of one letter.
func pack(t *testing.T, letter byte) packed {
	t.Helper()
	tree := t.TempDir()
	write(t, filepath.Join(tree, "etc/letters"), bytes.Repeat([]byte{letter}, 10e6))
	var tarred, text bytes.Buffer
	m, err := archive.Pack(t.Context(), &tarred, tree)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.WriteTo(&text); err != nil {
		t.Fatal(err)
	}
	return packed{tarred.Bytes(), text.Bytes()}
}

func write(t *testing.T, file string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// long skips what make test has no time for.
func long(t *testing.T) {
	t.Helper()
	if os.Getenv("EDEPLOY_LONG") != "1" {
		t.Skip("EDEPLOY_LONG=1 runs it (make test-long)")
	}
}
