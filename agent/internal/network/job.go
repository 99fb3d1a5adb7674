package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// job configures one port; it runs in a goroutine of its own and shares
// nothing with the others but the resolver.
type job struct {
	port     *port // only handed back with outcomes
	name     string
	config   Config
	boot     bool   // the machine booted from this port
	server   string // host and port
	upload   string // URL of upload.py on it
	hurry    hurry
	log      *slog.Logger
	resolver *resolver
	send     func(outcome) bool // false: nobody wants to know any more
}

func (j job) run(ctx context.Context) {
	link, err := j.device()
	if err == nil && j.config.Method == DHCP {
		j.lease(ctx, link)
		return
	}
	if err == nil {
		err = j.setStatic(link)
	}
	if err != nil {
		j.send(outcome{port: j.port, err: err, final: true})
		return
	}
	j.send(outcome{port: j.port, address: j.config.Address})
	j.reach(ctx, link.Attrs().Name)
}

// setStatic sets the address of the plan, and its gateway.
func (j job) setStatic(link netlink.Link) error {
	if err := setAddress(link, j.config.Address); err != nil || !j.config.Gateway.IsValid() {
		return err
	}
	route := netlink.Route{LinkIndex: link.Attrs().Index, Gw: j.config.Gateway.AsSlice(), Priority: j.metric(link)}
	if err := netlink.RouteReplace(&route); err != nil {
		return fmt.Errorf("set gateway %s on %s: %w", j.config.Gateway, link.Attrs().Name, err)
	}
	return nil
}

// metric keeps the default routes of several devices apart; that of the card which
// the machine booted from goes first.
func (j job) metric(link netlink.Link) int {
	const least = 100
	if j.boot {
		return least
	}
	return least + link.Attrs().Index
}

// device is the port itself, or the VLAN device on it.
func (j job) device() (netlink.Link, error) {
	parent, err := netlink.LinkByName(j.name)
	if err != nil {
		return nil, fmt.Errorf("find network device %s: %w", j.name, err)
	}
	if j.config.VLAN == 0 {
		return parent, nil
	}
	return vlanDevice(parent, j.config.VLAN)
}

func vlanDevice(parent netlink.Link, tag int) (netlink.Link, error) {
	name := fmt.Sprintf("%s.%d", parent.Attrs().Name, tag)
	err := netlink.LinkAdd(&netlink.Vlan{
		LinkAttrs: netlink.LinkAttrs{Name: name, ParentIndex: parent.Attrs().Index},
		VlanId:    tag,
	})
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, fmt.Errorf("make VLAN device %s: this kernel cannot do VLANs", name)
	}
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("make VLAN device %s: %w", name, err)
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("find VLAN device %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("set VLAN device %s up: %w", name, err)
	}
	return link, nil
}

func setAddress(link netlink.Link, address netip.Prefix) error {
	parsed, err := netlink.ParseAddr(address.String())
	if err != nil {
		return fmt.Errorf("address %s: %w", address, err)
	}
	if err := netlink.AddrReplace(link, parsed); err != nil {
		return fmt.Errorf("set address %s on %s: %w", address, link.Attrs().Name, err)
	}
	return nil
}
