// Package upgrade tells how an installed machine with a database comes to
// another version and back, and what a power cut on the way leaves of it.
package upgrade

import (
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"edeploy/integration/lab"
	"edeploy/integration/needs"
	"edeploy/integration/rack"
	"edeploy/integration/rack/racktest"
	"edeploy/server/wire"
)

var first, newer, newest = racktest.MySQL.First, racktest.MySQL.NewServer, racktest.MySQL.NewKernel

var node = rack.Blank{Name: "node", Disks: []int64{4e9}, MemoryMB: 1024}

// story is a rack with one machine that runs the first version and has rows in
// its database. Its disk is a base for copies.
type story struct {
	*racktest.Rack
	t    *testing.T
	node rack.Blank
	to   wire.ImageRef // of the upgrades whose power is cut
}

// begin installs the machine; layout is how its script lays the system out, such
// as rack.LVM: "" is one partition, and on UEFI machines what they need besides.
func begin(t *testing.T, node rack.Blank, layout string) *story {
	r := racktest.Start(t)
	s := &story{r, t, node, newer}
	if out, err := r.Ctl(t.Context(), "push-metadata", "../../out/metadata"); err != nil {
		t.Fatal(out, err)
	}
	files := rack.VM(first.Role, first.Version, r.Key)
	switch {
	case layout != "":
		files["vm.specs"] = rack.SpecsOf(node.Product, len(node.Disks))
		files["vm.configure"] = rack.LaidOut(layout, first.Role, first.Version, r.Key)
	case node.Firmware == lab.UEFI:
		files["vm.configure"] = rack.BothFirmwares(first.Role, first.Version, r.Key)
	default:
		files["vm.configure"] += rack.ByArchive
	}
	r.Configure(files)
	vm := r.Power(node)
	r.AwaitState(vm, "installed", 8*time.Minute)
	s.awaitBoot(vm)
	s.SSH(vm, "mysql -e '"+insert+"'")
	s.is(vm, first)
	if err := r.ShutDown(t.Context(), vm); err != nil {
		t.Fatal(err)
	}
	return s
}

const (
	insert = "CREATE DATABASE shop; CREATE TABLE shop.orders (id INT PRIMARY KEY, what VARCHAR(40)) ENGINE=InnoDB; " +
		"USE shop; INSERT INTO orders SELECT seq, CONCAT(\"row \", seq) FROM seq_1_to_1000"
	count = "mysql -N -e 'SELECT COUNT(*), SUM(id) FROM shop.orders'"
	rows  = "1000\t500500\n"
)

// power switches a copy of the machine on until this part of the story ends:
// there must be only one of them.
func (s *story) power(b rack.Blank) *lab.VM {
	s.t.Helper()
	vm := s.Power(b)
	s.t.Cleanup(func() { vm.Kill() })
	return vm
}

func (s *story) awaitBoot(vm *lab.VM) {
	s.t.Helper()
	s.Expect(vm, 3*time.Minute, `node10 login:`)
	s.SSH(vm, "systemctl is-system-running --wait; true") // the database starts beside the login
}

// is checks that the machine is exactly a version, with its data.
func (s *story) is(vm *lab.VM, want wire.ImageRef) {
	s.t.Helper()
	if got := s.SSH(vm, "edeploy version"); got != want.Version+"\n" {
		s.t.Errorf("version %q, want %s", got, want.Version)
	}
	if got := s.SSH(vm, "edeploy verify; echo exit $?"); !strings.HasSuffix(got, "exit 0\n") {
		s.t.Errorf("%s is not what its manifest says:\n%s", want, got)
	}
	if got := s.SSH(vm, count); got != rows {
		s.t.Errorf("the database has %q, want %q", got, rows)
	}
	if got := s.SSH(vm, "systemctl --failed --no-legend --plain; true"); got != "" {
		s.t.Errorf("failed units: %s", got)
	}
}

// appliance checks what the appliance says that the machine runs.
func (s *story) appliance(vm *lab.VM, want wire.ImageRef) {
	s.t.Helper()
	m, err := s.Find(s.t.Context(), vm.MAC(0))
	if err != nil {
		s.t.Fatal(err)
	}
	if m.State != "installed" || m.Image == nil || *m.Image != want {
		s.t.Errorf("the appliance says that the machine is %s and runs %s, want installed and %s", m.State, m.Image, want)
	}
}

// interrupted checks that the appliance has heard of the power cut.
func (s *story) interrupted(vm *lab.VM) {
	s.t.Helper()
	m, err := s.Find(s.t.Context(), vm.MAC(0))
	if err != nil {
		s.t.Fatal(err)
	}
	if want := fmt.Sprintf("upgrade: interrupted; this machine is %s as before", first); m.LastError != want {
		s.t.Errorf("the appliance says of the machine %q, want %q", m.LastError, want)
	}
}

// upgrade upgrades by ssh; the exit status is 100 when a reboot is needed.
func (s *story) upgrade(vm *lab.VM, to wire.ImageRef, status int) string {
	s.t.Helper()
	out := s.SSH(vm, fmt.Sprintf("edeploy upgrade --no-reboot %s 2>&1; echo exit $?", to.Version))
	s.t.Logf("edeploy upgrade %s:\n%s", to.Version, out)
	if !strings.HasSuffix(out, fmt.Sprintf("exit %d\n", status)) {
		s.t.Fatalf("upgrade to %s: want exit status %d", to, status)
	}
	return out
}

// An installed machine is upgraded to another MariaDB, back, and on to another
// kernel: it is exactly the version each time, and its rows are there. Then
// power is cut at a random instant of an upgrade: the machine boots and is
// exactly one of the two versions. SEED repeats the instant of a run.
func TestUpgrade(t *testing.T) {
	s := begin(t, node, "")
	t.Run("there and back", func(t *testing.T) { s.in(t).thereAndBack() })
	random := rand.New(rand.NewPCG(needs.Seed(t), 0))
	s.powerCuts(random, []instant{[]instant{stage, apply, post}[random.IntN(3)]}, 0)
}

// The long campaign: power is cut 20 times, on two racks at once, until it was
// within the change of the tree ten times.
func TestPowerCuts(t *testing.T) {
	if os.Getenv("EDEPLOY_LONG") != "1" {
		t.Skip("cuts power for an hour: EDEPLOY_LONG=1 runs it (make test-long)")
	}
	seed := needs.Seed(t)
	steps := append([]instant{stage, post}, slices.Repeat([]instant{apply}, 8)...)
	for i := range uint64(2) {
		t.Run(fmt.Sprintf("rack %d", i+1), func(t *testing.T) {
			t.Parallel()
			begin(t, node, "").powerCuts(rand.New(rand.NewPCG(seed, i)), steps, 5)
		})
	}
}

// The same on a UEFI machine: to another kernel and back, and five power cuts.
func TestUEFI(t *testing.T) {
	if os.Getenv("EDEPLOY_LONG") != "1" {
		t.Skip("upgrades a UEFI machine for half an hour: EDEPLOY_LONG=1 runs it (make test-long)")
	}
	uefi := node
	uefi.Firmware = lab.UEFI
	s := begin(t, uefi, "")
	t.Run("there and back", func(t *testing.T) { s.in(t).thereAndBack() })
	t.Run("back to the former kernel", func(t *testing.T) { s.in(t).kernelBack() })
	s.to = newest
	s.powerCuts(rand.New(rand.NewPCG(needs.Seed(t), 0)), []instant{stage, apply, apply, apply, post}, 0)
}

// Power is cut while the tree changes on an array and on logical volumes.
func TestPowerCutsOnLayouts(t *testing.T) {
	if os.Getenv("EDEPLOY_LONG") != "1" {
		t.Skip("installs two machines: EDEPLOY_LONG=1 runs it (make test-long)")
	}
	for name, layout := range map[string]struct {
		script string
		disks  []int64
	}{"raid1": {rack.RAID1, []int64{3e9, 3e9}}, "lvm": {rack.LVM, []int64{3e9}}} {
		t.Run(name, func(t *testing.T) {
			on := node
			on.Product, on.Disks = name, layout.disks
			begin(t, on, layout.script).powerCuts(rand.New(rand.NewPCG(needs.Seed(t), 0)), []instant{apply, post}, 1)
		})
	}
}

func (s *story) in(t *testing.T) *story { return &story{s.Rack.In(t), t, s.node, s.to} }

func (s *story) thereAndBack() {
	on := s.node
	on.Copy = "upgraded"
	vm := s.power(on)
	s.awaitBoot(vm)
	if got := s.SSH(vm, "edeploy list"); !strings.Contains(got, newer.Version) {
		s.t.Errorf("edeploy list: %q, want %s in it", got, newer.Version)
	}
	before := s.SSH(vm, mariadb)
	s.upgrade(vm, newer, 0)
	s.is(vm, newer)
	s.appliance(vm, newer)
	if after := s.SSH(vm, mariadb); after == before {
		s.t.Errorf("MariaDB is still %s", before)
	}

	out := s.SSH(vm, "edeploy rollback 2>&1; echo exit $?")
	s.t.Logf("edeploy rollback:\n%s", out)
	if !strings.HasSuffix(out, "exit 0\n") {
		s.t.Fatal("edeploy rollback: want exit status 0")
	}
	if !regexp.MustCompile(`systemctl restart .*mariadb\.service`).MatchString(out) {
		s.t.Error("edeploy rollback does not say that MariaDB still runs the newer version")
	}
	s.is(vm, first)
	s.appliance(vm, first)
	if after := s.SSH(vm, "systemctl restart mariadb; "+mariadb); after != before {
		s.t.Errorf("MariaDB is %s after the rollback, want %s", after, before)
	}

	release := s.SSH(vm, "uname -r")
	s.upgrade(vm, newest, wire.RebootExitCode)
	s.restart(vm, release, newest)
}

// restart reboots into another kernel than the one that runs.
func (s *story) restart(vm *lab.VM, release string, want wire.ImageRef) {
	s.SSH(vm, "(sleep 1; systemctl reboot) >/dev/null 2>&1 &")
	s.awaitBoot(vm)
	s.is(vm, want)
	s.appliance(vm, want)
	if now := s.SSH(vm, "uname -r"); now == release {
		s.t.Errorf("the kernel is still %s", release)
	}
}

// kernelBack takes the last upgrade of thereAndBack back.
func (s *story) kernelBack() {
	on := s.node
	on.Copy = "upgraded"
	vm := s.power(on)
	s.awaitBoot(vm)
	s.is(vm, newest)
	release := s.SSH(vm, "uname -r")
	out := s.SSH(vm, "edeploy rollback 2>&1; echo exit $?")
	s.t.Logf("edeploy rollback:\n%s", out)
	if !strings.HasSuffix(out, fmt.Sprintf("exit %d\n", wire.RebootExitCode)) {
		s.t.Fatalf("edeploy rollback: want exit status %d", wire.RebootExitCode)
	}
	s.restart(vm, release, first)
}

const mariadb = "mysql -N -e 'SELECT VERSION()'"

// instant is a moment of an upgrade: some time after a line of its output.
type instant struct {
	line  string
	delay time.Duration
}

// The lines of "edeploy upgrade" that begin three steps, and about how long the
// steps take in emulation. There is no pre: the tree changes from the line of
// the stage to that of the apply.
var (
	stage = instant{` to fetch`, 15 * time.Second}
	apply = instant{`stage: `, 200 * time.Millisecond} // most; see powerCuts
	post  = instant{`apply: `, 5 * time.Second}
)

func (c instant) some(random *rand.Rand) instant {
	return instant{c.line, time.Duration(random.Int64N(int64(c.delay))).Round(time.Millisecond)}
}

// powerCuts cuts power once in each of the steps, and goes on until it was
// within the change of the tree as often as wanted. A change that was over before the
// cut says that it takes less time here.
func (s *story) powerCuts(random *rand.Rand, steps []instant, want int) {
	inside, most, change := 0, 2*len(steps)+4, apply.delay
	for i := 0; i < len(steps) || inside < want && i < most; i++ {
		step := apply
		if i < len(steps) {
			step = steps[i]
		}
		if step == apply {
			step.delay = change
		}
		c := step.some(random)
		s.t.Run(fmt.Sprintf("power cut %d", i+1), func(t *testing.T) {
			switch {
			case s.in(t).cut(i, c):
				inside++
			case c.line == apply.line:
				change = max(c.delay, 10*time.Millisecond)
			}
		})
	}
	s.t.Logf("%d power cuts while the tree was changing", inside)
	if inside < want {
		s.t.Errorf("%d power cuts while the tree was changing, want at least %d", inside, want)
	}
}

// cut says whether power was cut while the tree was changing.
func (s *story) cut(i int, c instant) (inside bool) {
	on := s.node
	on.Copy = fmt.Sprintf("cut%d", i+1)
	vm := s.power(on)
	s.awaitBoot(vm)
	s.SSH(vm, "setsid edeploy upgrade --no-reboot "+s.to.Version+" >/dev/ttyS0 2>&1 </dev/null &")
	s.Expect(vm, 5*time.Minute, c.line)
	time.Sleep(c.delay) // the instant is the point
	if err := vm.Kill(); err != nil {
		s.t.Fatal(err)
	}
	before := console(s.t, vm)
	inside = strings.Contains(before, apply.line) && !strings.Contains(before, post.line)
	vm = s.power(on)
	s.awaitBoot(vm)
	version := strings.TrimSpace(s.SSH(vm, "edeploy version"))
	s.t.Logf("power cut %v after %q, the tree was changing: %t; the machine is %s; it said: %q", c.delay, c.line, inside, version, said(s.t, vm))
	switch version {
	case first.Version:
		s.is(vm, first)
		if c.line != stage.line { // there, power may be cut before the appliance hears that an upgrade begins
			s.interrupted(vm)
		}
	case s.to.Version:
		s.is(vm, s.to)
	default:
		s.t.Errorf("the machine is neither version: %q", version)
	}
	return inside
}

// said is what the recovery said on the console.
func said(t *testing.T, vm *lab.VM) []string {
	t.Helper()
	return regexp.MustCompile(`(?m)^(An upgrade was|The way from|The upgrade from|edeploy: ).*[^\r\n]`).FindAllString(console(t, vm), -1)
}

func console(t *testing.T, vm *lab.VM) string {
	t.Helper()
	text, err := os.ReadFile(vm.ConsolePath())
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
