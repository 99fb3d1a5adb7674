// Package nic is the appliance's door to its network devices: it gives the
// provisioning device its address, and makes sockets that hear and speak on
// that device only.
package nic

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Configure brings the device up with the address, which is added beside
// others. It waits for a device that the kernel has not found yet, until ctx
// ends.
func Configure(ctx context.Context, device string, address netip.Prefix) error {
	link, err := waitForLink(ctx, device)
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(address.String())
	if err != nil {
		return fmt.Errorf("give %s the address %s: %w", device, address, err)
	}
	if err := netlink.AddrReplace(link, addr); err != nil {
		return fmt.Errorf("give %s the address %s: %w", device, address, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring up %s: %w", device, err)
	}
	return nil
}

func waitForLink(ctx context.Context, device string) (netlink.Link, error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		link, err := netlink.LinkByName(device)
		if err == nil {
			return link, nil
		}
		if _, absent := errors.AsType[netlink.LinkNotFoundError](err); !absent {
			return nil, fmt.Errorf("look for network device %s: %w", device, err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("network device %s does not exist; there are: %s", device, strings.Join(names(), ", "))
		case <-tick.C:
		}
	}
}

func names() []string {
	var all []string
	interfaces, _ := net.Interfaces() // only to make a message more useful
	for _, i := range interfaces {
		all = append(all, i.Name)
	}
	return all
}

// Index is the number that the kernel has given to a device; 0 when there is
// none of this name.
func Index(device string) int {
	i, err := net.InterfaceByName(device)
	if err != nil {
		return 0
	}
	return i.Index
}

// Listen opens a TCP listener on address. When device is not empty the
// socket is bound to it: a packet for the address that comes in by another
// device, which Linux would accept, is not answered.
func Listen(ctx context.Context, device string, address netip.AddrPort) (*net.TCPListener, error) {
	var c net.ListenConfig
	if device != "" {
		c.Control = func(_, _ string, raw syscall.RawConn) error { return bind(raw, device) }
	}
	l, err := c.Listen(ctx, "tcp4", address.String())
	if errors.Is(err, syscall.EADDRNOTAVAIL) {
		return nil, fmt.Errorf("listen on %s: no network device of this machine has the address %s: give it to one, or set [NETWORK] ADDRESS (CONFIGURE = yes lets edeployd do it): %w",
			address, address.Addr(), err)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return l.(*net.TCPListener), nil
}

// Bind binds an open listener to the device that has the name now. The kernel
// binds to a number, not to a name, so a device that was removed and made anew
// needs it again.
func Bind(l *net.TCPListener, device string) error {
	raw, err := l.SyscallConn()
	if err != nil {
		return err
	}
	return bind(raw, device)
}

func bind(c syscall.RawConn, device string) error {
	var failed error
	if err := c.Control(func(fd uintptr) {
		failed = os.NewSyscallError("bind to device "+device, unix.BindToDevice(int(fd), device))
	}); err != nil {
		return err
	}
	return failed
}
