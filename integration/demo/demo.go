// Demo boots the appliance and blank machines in QEMU, lets it install them,
// and logs into the first one.
//
// It reads out/appliance.img and out/install (make image role build), and the
// environment: DEMO_MACHINES (how many blank machines, 1), DEMO_KEEP (not
// empty: everything stays on until "quit" or Ctrl-C, and commands on standard
// input add machines and switch them). It writes out/demo.
package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"edeploy/integration/lab"
	"edeploy/integration/rack"
	"edeploy/server/wire"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// dir is where the demo's logs, disks and profiles are.
var dir = filepath.Join("out", "demo")

// image is what the demo installs.
var image = wire.ImageRef{Role: "base", Version: cmp.Or(os.Getenv("VERSION"), "D12-F.1.0.0")}

func run(ctx context.Context, out io.Writer) (err error) {
	machines, err := strconv.Atoi(cmp.Or(os.Getenv("DEMO_MACHINES"), "1"))
	if err != nil || machines < 1 || machines > 20 {
		return fmt.Errorf("DEMO_MACHINES=%s: want a number from 1 to 20", os.Getenv("DEMO_MACHINES"))
	}
	start := time.Now()
	say := func(format string, args ...any) {
		fmt.Fprintf(out, "[%6.1fs] %s\n", time.Since(start).Seconds(), fmt.Sprintf(format, args...))
	}
	say("finding out how QEMU can run here (10 s at most)")
	accel, err := lab.Accel()
	if err != nil {
		return err
	}
	say("QEMU runs with %s", accel)
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	r, err := rack.Start(ctx, rack.Options{Dir: dir, Out: "out", Say: say})
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			r.Report(os.Stderr)
		}
		r.Close()
	}()
	say("the appliance answers at http://%s", rack.Appliance)
	d, err := prepare(ctx, r, say)
	if err != nil {
		return err
	}
	if err := d.install(ctx, machines); err != nil {
		return err
	}
	say("logging into the first machine:")
	answer, err := r.SSH(ctx, d.key, d.machines[0].host, lookAround)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\n%s\n", answer)
	if err := r.Lab.Timeline.WriteTable(out); err != nil {
		return err
	}
	if os.Getenv("DEMO_KEEP") != "" {
		return d.keep(ctx, os.Stdin, out)
	}
	return nil
}

// lookAround is what the demo asks the installed machine.
const lookAround = `set -e
echo "$(hostname): $(. /etc/os-release; echo $PRETTY_NAME), kernel $(uname -r)"
echo "role $(edeploy role) version $(edeploy version) profile $(edeploy profile)"
uptime
df -h / | tail -1
systemctl --no-pager --no-legend list-units --type=service --state=running | awk '{print "  running: " $1}'`

// demo is an appliance with a role and a profile, and machines in order.
type demo struct {
	rack *rack.Rack
	key  *rack.Key
	say  func(format string, args ...any)

	machines []*machine
}

// machine is one of the demo's machines.
type machine struct {
	name string
	vm   *lab.VM
	host netip.Addr // zero: not installed yet
	port uint16     // of 127.0.0.1, leads to its ssh; 0: none yet
}

// prepare brings role and profile to the appliance.
func prepare(ctx context.Context, r *rack.Rack, say func(string, ...any)) (*demo, error) {
	key, err := rack.NewKey(r.Lab.Path("id_ed25519"))
	if err != nil {
		return nil, err
	}
	if err := r.Push(ctx, image); err != nil {
		return nil, err
	}
	files := rack.VM(image.Role, image.Version, key)
	files["vm.configure"] += rack.ByArchive
	return &demo{rack: r, key: key, say: say}, r.Configure(ctx, files)
}

// install switches blank machines on and waits until all run what they should.
func (d *demo) install(ctx context.Context, machines int) error {
	d.say("role and profile are in place; switching on %d blank machine(s)", machines)
	group, installing := errgroup.WithContext(ctx)
	for range machines {
		// The machine outlives this group: it runs until the rack closes.
		m, err := d.add(ctx)
		if err != nil {
			return err
		}
		group.Go(func() error {
			var err error
			m.host, err = d.await(installing, m.vm, time.Duration(machines)*5*time.Minute)
			return err
		})
	}
	return group.Wait()
}

// add switches on one blank machine more.
func (d *demo) add(ctx context.Context) (*machine, error) {
	m := &machine{name: fmt.Sprintf("machine%d", len(d.machines)+1)}
	var err error
	if m.vm, err = d.rack.Power(ctx, rack.Blank{Name: m.name}); err != nil {
		return nil, err
	}
	d.machines = append(d.machines, m)
	return m, nil
}

// await waits until a machine is installed and lets the operator in.
func (d *demo) await(ctx context.Context, vm *lab.VM, patience time.Duration) (netip.Addr, error) {
	if _, err := d.rack.AwaitState(ctx, vm, "installed", patience); err != nil {
		return netip.Addr{}, err
	}
	host, err := d.rack.Address(ctx, vm)
	if err != nil {
		return host, err
	}
	d.say("%s is installed; it boots its own disk now", vm.Name())
	return host, d.rack.AwaitLogin(ctx, vm, d.key, host)
}
