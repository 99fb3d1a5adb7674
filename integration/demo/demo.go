// Demo boots the appliance and blank machines in QEMU, lets it install them,
// and logs into the first one.
//
// It reads out/appliance.img and out/install (make image role build), and the
// environment: DEMO_MACHINES (how many blank machines, 1), DEMO_KEEP (not
// empty: everything stays on until you press Ctrl-C). It writes out/demo.
package main

import (
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

// image is what the demo installs.
var image = wire.ImageRef{Role: "base", Version: envOr("VERSION", "D12-F.1.0.0")}

func envOr(name, def string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return def
}

func run(ctx context.Context, out io.Writer) (err error) {
	machines, err := strconv.Atoi(envOr("DEMO_MACHINES", "1"))
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
	dir := filepath.Join("out", "demo")
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
	key, hosts, err := install(ctx, r, machines, say)
	if err != nil {
		return err
	}
	say("logging into the first machine:")
	answer, err := r.SSH(ctx, key, hosts[0], lookAround)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\n%s\n", answer)
	if err := r.Lab.Timeline.WriteTable(out); err != nil {
		return err
	}
	if os.Getenv("DEMO_KEEP") != "" {
		return keep(ctx, r, key, hosts, out)
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

// install brings role and profile to the appliance, switches the machines on
// and waits until all run what they should.
func install(ctx context.Context, r *rack.Rack, machines int, say func(string, ...any)) (*rack.Key, []netip.Addr, error) {
	key, err := rack.NewKey(r.Lab.Path("id_ed25519"))
	if err != nil {
		return nil, nil, err
	}
	if err := r.Push(ctx, image); err != nil {
		return nil, nil, err
	}
	if err := r.Configure(ctx, rack.VM(image.Role, image.Version, key)); err != nil {
		return nil, nil, err
	}
	say("role and profile are in place; switching on %d blank machine(s)", machines)
	hosts := make([]netip.Addr, machines)
	group, installing := errgroup.WithContext(ctx)
	for i := range machines {
		group.Go(func() error {
			name := fmt.Sprintf("machine%d", i+1)
			// The machine outlives this group: it runs until the rack closes.
			vm, err := r.Power(ctx, rack.Blank{Name: name})
			if err != nil {
				return err
			}
			if _, err := r.AwaitState(installing, vm, "installed", time.Duration(machines)*5*time.Minute); err != nil {
				return err
			}
			if hosts[i], err = r.Address(installing, vm); err != nil {
				return err
			}
			say("%s is installed; it boots its own disk now", name)
			_, err = r.SSH(installing, key, hosts[i], "true")
			return err
		})
	}
	return key, hosts, group.Wait()
}

// keep leaves everything on and says how to look around.
func keep(ctx context.Context, r *rack.Rack, key *rack.Key, hosts []netip.Addr, out io.Writer) error {
	fmt.Fprintf(out, "\nEverything stays on until you press Ctrl-C.\n")
	fmt.Fprintf(out, "  the appliance:  out/bin/edeployctl --server %s machines\n", r.Server())
	for i, host := range hosts {
		local, err := r.Laptop.Forward("127.0.0.1:0", netip.AddrPortFrom(host, 22).String())
		if err != nil {
			return err
		}
		at := local.(interface{ AddrPort() netip.AddrPort }).AddrPort()
		fmt.Fprintf(out, "  machine%d:       ssh -i %s -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -p %d root@127.0.0.1\n", i+1, key.File, at.Port())
	}
	fmt.Fprintf(out, "  consoles:       tail -f %s\n", r.Lab.Path("*.console.log"))
	<-ctx.Done()
	return nil
}
