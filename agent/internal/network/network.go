// Package network gives a blank machine its addresses: links up, carriers
// awaited, the IP= plan of the kernel command line applied, DHCP on all devices
// that want it at the same time, until one of them leads to the server; leases
// are renewed for as long as the installation takes.
//
// It talks to the kernel by netlink and writes /etc/resolv.conf.
package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"edeploy/server/wire"
)

// Up brings the network up and returns when the server answers by one device
// and the others are as far as they get within the waiting times of
// progress.go, or with one sentence that names every device and what was tried.
// An address alone is no success: it may be that of another network. Devices are configured as soon as
// their carrier is there. DHCP leases are renewed in the background until ctx
// ends, so ctx must last as long as the network is needed.
func Up(ctx context.Context, args wire.BootArgs, log *slog.Logger) error {
	return up(ctx, args, log, 1)
}

func up(ctx context.Context, args wire.BootArgs, log *slog.Logger, hurry hurry) error {
	log = cmp.Or(log, slog.New(slog.DiscardHandler))
	plan, err := ParsePlan(args.IP)
	if err != nil {
		return err
	}
	for _, word := range plan.Ignored {
		log.Warn("entry of the kernel parameter IP has no colon and is ignored", "entry", word)
	}
	u, err := newSetup(ctx, plan, log)
	if err != nil {
		return err
	}
	defer u.close()
	u.hurry, u.bootIF = hurry, strings.ToLower(strings.ReplaceAll(args.BootIF, "-", ":"))
	if err := u.findPorts(ctx); err != nil {
		return err
	}
	u.server, u.upload = serverAddress(args.Serv, args.HTTPPort), args.UploadURL()
	u.begin, u.linkUpTime = time.Now(), hurry.of(time.Duration(args.LinkUpTimeoutSeconds)*time.Second)
	u.lastCarrier = u.begin
	return u.run(ctx)
}

type setup struct {
	progress
	plan     Plan
	upload   string // URL of upload.py
	bootIF   string // MAC address of the card that the machine booted from, behind its type; "": not known
	log      *slog.Logger
	changes  chan netlink.LinkUpdate
	stop     chan struct{} // ends changes
	outcomes chan outcome
	quit     map[string]context.CancelFunc // ends the work on a port
	resolver *resolver
}

// outcome is what became of a port from its goroutines: about its address, or, with
// the device that was used, about the server.
type outcome struct {
	port    *port
	address netip.Prefix
	err     error
	final   bool // nothing more will be tried

	device    string     // "": about the address
	server    netip.Addr // that answered
	serverErr error      // why it did not
}

func newSetup(ctx context.Context, plan Plan, log *slog.Logger) (*setup, error) {
	u := &setup{
		plan: plan, log: log,
		changes:  make(chan netlink.LinkUpdate, 16),
		stop:     make(chan struct{}),
		outcomes: make(chan outcome),
		quit:     map[string]context.CancelFunc{},
		resolver: &resolver{path: resolvConf, servers: map[string][]netip.Addr{}, domains: map[string]string{}},
	}
	if err := netlink.LinkSubscribe(u.changes, u.stop); err != nil {
		return nil, fmt.Errorf("listen to changes of network devices: %w", err)
	}
	return u, nil
}

// close stops listening, and the work on ports that did not get an address: an
// answer that comes after the hardware was described would only confuse.
func (u *setup) close() {
	close(u.stop)
	if changes := u.changes; changes != nil {
		go func() {
			for range changes { // netlink closes it; its sender must not block
			}
		}()
	}
	for _, p := range u.ports {
		if quit := u.quit[p.name]; quit != nil && !p.address.IsValid() {
			quit()
		}
	}
}

// findPorts lists the network devices, waiting a while for the first, and sets
// them up.
func (u *setup) findPorts(ctx context.Context) error {
	deadline := time.After(deviceTime)
	for {
		if err := u.addPorts(); err != nil || len(u.ports) > 0 {
			return err
		}
		select {
		case <-u.changes:
		case <-deadline:
			return fmt.Errorf("no network device found: the machine has none, or this kernel has no driver for it")
		case <-ctx.Done():
			return fmt.Errorf("wait for network devices: %w", ctx.Err())
		}
	}
}

// addPorts takes devices that are new; drivers may find some late.
func (u *setup) addPorts() error {
	links, err := linkList()
	if err != nil {
		return err
	}
	for _, link := range links {
		name := link.Attrs().Name
		known := slices.ContainsFunc(u.ports, func(p *port) bool { return p.name == name })
		if known || !isPort(link) {
			continue
		}
		if err := netlink.LinkSetUp(link); err != nil {
			u.log.Warn("network device cannot be set up", "device", name, "error", err)
			continue
		}
		mac := link.Attrs().HardwareAddr.String()
		boot := mac != "" && strings.HasSuffix(u.bootIF, mac)
		u.ports = append(u.ports, &port{name: name, index: link.Attrs().Index, config: u.plan.For(name), boot: boot})
	}
	slices.SortFunc(u.ports, func(a, b *port) int { return cmp.Compare(a.index, b.index) })
	return nil
}

// linkList are the network devices, or most of them: while links come and go the
// kernel may have left some out, and the next look finds them.
func linkList() ([]netlink.Link, error) {
	links, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list network devices: %w", err)
	}
	return links, nil
}

// isPort excludes the loopback and all devices that are made of others.
func isPort(link netlink.Link) bool {
	encap := link.Attrs().EncapType
	return (link.Type() == "device" || link.Type() == "veth") && (encap == "ether" || encap == "infiniband")
}

// run starts what can be started and waits for outcomes until the decision says
// that it is enough.
func (u *setup) run(ctx context.Context) error {
	for {
		if err := u.refresh(); err != nil {
			return err
		}
		u.start(ctx)
		wait := u.wait(time.Now())
		if wait <= 0 {
			return u.result(time.Now())
		}
		select {
		case _, ok := <-u.changes:
			if !ok {
				u.changes = nil // the kernel's queue overflowed: the clock does it
			}
		case o := <-u.outcomes:
			u.handle(o)
		case <-time.After(min(wait, u.hurry.of(pollTime))):
		case <-ctx.Done():
			return fmt.Errorf("bring network up: %w", ctx.Err())
		}
	}
}

func (u *setup) refresh() error {
	if err := u.addPorts(); err != nil {
		return err
	}
	for _, p := range u.ports {
		link, err := netlink.LinkByIndex(p.index)
		carrier := err == nil && link.Attrs().RawFlags&unix.IFF_LOWER_UP != 0
		if carrier != p.carrier {
			p.carrier, u.lastCarrier = carrier, time.Now()
			u.log.Info("carrier changed", "device", p.name, "carrier", carrier)
		}
	}
	return nil
}

func (u *setup) start(ctx context.Context) {
	for _, p := range u.startable(time.Now()) {
		p.started = time.Now()
		ctx, quit := context.WithCancel(ctx)
		u.quit[p.name] = quit
		job := job{port: p, name: p.name, config: p.config, boot: p.boot, server: u.server, upload: u.upload, hurry: u.hurry, log: u.log.With("device", p.name), resolver: u.resolver,
			send: func(o outcome) bool {
				select {
				case u.outcomes <- o:
					return true
				case <-u.stop:
					return false
				}
			}}
		go job.run(ctx)
	}
}

func (u *setup) handle(o outcome) {
	p := o.port
	if o.device != "" {
		u.handleServer(p, o)
		return
	}
	p.failed = o.final
	if o.address.IsValid() {
		p.address, p.err = o.address, nil
		u.log.Info("address set", "device", p.config.device(p.name), "address", o.address.String())
		return
	}
	p.asked, p.err = p.asked+1, o.err
	u.log.Warn("no address yet", "device", p.config.device(p.name), "error", o.err)
}

func (u *setup) handleServer(p *port, o outcome) {
	if p.serverErr = o.serverErr; p.serverErr != nil {
		if now := time.Now(); now.Sub(p.logged) >= tellAgain {
			p.logged = now
			u.log.Warn("the server does not answer yet", "device", o.device, "address", p.address.String(), "server", u.server, "error", p.serverErr)
		}
		return
	}
	preferred := !u.reached() || p.boot
	p.reached = true
	u.log.Info("the server answers", "device", o.device, "server", u.server)
	if preferred {
		if err := routeServer(o.device, o.server); err != nil {
			u.log.Warn("what is for the server may go by another device", "error", err)
		}
	}
}
