// Package rack sets up what an operator sets up: the appliance in a virtual
// machine, a wire, a laptop on it, role trees pushed with edeployctl, profiles
// in place, and blank machines that are switched on. Stories, the benchmark
// and the demo are told with it.
//
// It uses what `make image role build` leaves below out/: appliance.img, the
// archives of the roles, and the program edeployctl.
package rack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"time"

	"edeploy/integration/lab"
	"edeploy/server/api"
	"edeploy/server/wire"
)

// Addresses on the provisioning wire.
var (
	Appliance = netip.MustParseAddr("10.0.3.1")
	laptop    = netip.MustParsePrefix("10.0.3.100/24")
)

// Rack is a running appliance with a wire and a laptop.
type Rack struct {
	Lab       *lab.Lab
	Hub       *lab.Hub
	Laptop    *lab.Laptop
	Appliance *lab.VM

	out    string // the build's output directory
	disk   string // the appliance's disk
	server string // the appliance's HTTP address as the host reaches it
	client *api.Client
	say    func(format string, args ...any)
}

// Options of Start.
type Options struct {
	Dir string // logs, captures, disks
	Out string // the build's output directory
	Log *slog.Logger
	// Images are there from the start, without being pushed.
	Images []wire.ImageRef
	Say    func(format string, args ...any) // progress for a person; nil: silent
}

// Start boots a fresh appliance and waits until it answers.
func Start(ctx context.Context, o Options) (*Rack, error) {
	if o.Say == nil {
		o.Say = func(string, ...any) {}
	}
	from, err := base(ctx, o)
	if err != nil {
		return nil, err
	}
	l, err := lab.New(o.Dir, o.Log)
	if err != nil {
		return nil, err
	}
	r := &Rack{Lab: l, out: o.Out, say: o.Say, disk: l.Path("appliance.qcow2")}
	if err := r.start(ctx, from); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return r, nil
}

func (r *Rack) start(ctx context.Context, from string) error {
	if err := lab.Overlay(from, r.disk); err != nil {
		return err
	}
	var err error
	if r.Hub, err = r.Lab.Hub("wire"); err != nil {
		return err
	}
	if r.Laptop, err = r.Hub.Laptop(laptop); err != nil {
		return err
	}
	web, err := r.Laptop.Forward("127.0.0.1:0", netip.AddrPortFrom(Appliance, 80).String())
	if err != nil {
		return err
	}
	r.server = "http://" + web.String()
	r.client = &api.Client{Address: r.server, Timeout: lab.Patience(15 * time.Second)}
	return r.PowerAppliance(ctx)
}

// Close switches everything off.
func (r *Rack) Close() error { return r.Lab.Close() }

// Server is the appliance's HTTP address as this host reaches it.
func (r *Rack) Server() string { return r.server }

// Report writes where to look after a failure.
func (r *Rack) Report(w io.Writer) { r.Lab.Report(w) }

// PowerAppliance switches the appliance on and waits until it answers. Its
// second card is the operator's side: nothing is served there.
func (r *Rack) PowerAppliance(ctx context.Context) error {
	end := r.Lab.Timeline.Begin("appliance", "power on to first answer")
	defer end()
	var err error
	r.Appliance, err = r.Lab.Start(ctx, lab.Machine{
		Name: "appliance", MemoryMB: 768, CPUs: 2, Boot: lab.DiskFirst,
		Disks: []lab.Disk{{Path: r.disk}},
		NICs:  []lab.NIC{{Hub: r.Hub}, {User: &lab.UserNet{Forward: operatorPorts}}},
	})
	if err != nil {
		return err
	}
	defer r.followConsole(r.Appliance)()
	return r.awaitServer(ctx)
}

// operatorPorts are where our services would be found on the second card if
// they were served there.
var operatorPorts = []int{80, 873, 8181}

func (r *Rack) awaitServer(ctx context.Context) error {
	ctx, cancel := lab.Deadline(ctx, time.Minute)
	defer cancel()
	ctx, over := context.WithCancelCause(ctx)
	defer over(nil)
	go func() {
		select {
		case <-r.Appliance.Exited():
			over(errors.New("it switched itself off"))
		case <-ctx.Done():
		}
	}()
	client := api.Client{Address: Appliance.String(), Timeout: 5 * time.Second, Dial: r.Laptop.DialContext}
	if err := try(ctx, time.Second, func() error { _, err := client.Version(ctx); return err }); err != nil {
		return fmt.Errorf("the appliance does not answer: %w", err)
	}
	return nil
}

// try tries until it succeeds or ctx ends, which is the error then with that of
// the last try.
func try(ctx context.Context, pause time.Duration, it func() error) error {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		err := it()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		}
	}
}
