package appliance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"edeploy/appliance/internal/admission"
	"edeploy/appliance/internal/nic"
)

// Sockets are the listening TCP sockets. Another process may keep them open
// while edeployd is started again: connections wait in them meanwhile.
type Sockets struct{ HTTP, Rsync *net.TCPListener }

// Listen configures the network device if it is told to, and opens the sockets,
// on this device only.
func Listen(ctx context.Context, c Config) (Sockets, error) {
	if c.Interface.Configure {
		ctx, cancel := context.WithTimeout(ctx, deviceWait)
		defer cancel()
		if err := nic.Configure(ctx, c.Interface.Name, c.Interface.Address); err != nil {
			return Sockets{}, err
		}
	}
	var s Sockets
	for port, l := range map[int]**net.TCPListener{c.HTTPPort: &s.HTTP, c.RsyncPort: &s.Rsync} {
		var err error
		if *l, err = nic.Listen(ctx, c.Interface.Name, netip.AddrPortFrom(c.Interface.Address.Addr(), uint16(port))); err != nil {
			return Sockets{}, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// Close closes those that are open.
func (s Sockets) Close() error {
	var errs []error
	for _, l := range []*net.TCPListener{s.HTTP, s.Rsync} {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	return errors.Join(errs...)
}

// limits are the connections at once of the TCP services, for as many
// descriptors as the process may have: a request takes two at most (the
// connection, a file), a transfer over rsync four, and a quarter is kept for
// files that must always open.
func limits(descriptors uint64) (web, rsync int) {
	n := int(min(descriptors, 1<<20))
	return max(8, min(1024, n/4)), max(4, min(256, n/16))
}

// connections are the limits of this process. (The Go runtime has raised the
// soft limit to the hard one.)
func connections() (web, rsync int) {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		files.Cur = 1024 // the usual one
	}
	return limits(files.Cur)
}

const (
	webRefusal = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 10\r\nConnection: close\r\nContent-Type: application/json\r\n\r\n" +
		"{\"error\": \"your address has its share of connections already: ask again later\"}\n"
	rsyncRefusal = "@RSYNCD: 27\n@ERROR: your address has its share of connections already -- try again later\n"
)

// sendBuffer is what the kernel keeps of an answer: enough for a gigabit
// network at its usual round-trip times.
const sendBuffer = 256 << 10

func (a *Appliance) httpListener() *admission.Listener {
	n, _ := connections()
	return &admission.Listener{TCPListener: a.sockets.HTTP, Name: "HTTP", Total: n, PerPeer: n / 4,
		Refusal: webRefusal, WriteBuffer: sendBuffer, Warn: a.warn, Log: a.log}
}

func (a *Appliance) rsyncListener() *admission.Listener {
	_, n := connections()
	return &admission.Listener{TCPListener: a.sockets.Rsync, Name: "rsync", Total: n, PerPeer: n / 4,
		Refusal: rsyncRefusal, WriteBuffer: sendBuffer, Warn: a.warn, Log: a.log}
}

// deviceWait is how long a start waits for a device that the kernel has not
// found yet; deviceInterval is how often it is looked at later.
const (
	deviceWait     = 30 * time.Second
	deviceInterval = time.Second
)

// watchDevice notices that the provisioning device was removed and made anew
// under the same name: sockets that were bound to the old one hear nothing.
func (a *Appliance) watchDevice(ctx context.Context) error {
	device := a.config.Interface.Name
	if device == "" {
		<-ctx.Done()
		return nil
	}
	bound, tick := nic.Index(device), time.NewTicker(deviceInterval)
	defer tick.Stop()
	for present := true; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		index := nic.Index(device)
		if present != (index != 0) && index == 0 {
			a.warnDevice("network device %s is gone: no machine can boot until it is back", device)
		}
		present = index != 0
		if !present || index == bound {
			continue
		}
		if err := a.listenAnew(ctx, deviceInterval); err != nil {
			a.log.Warn("network device came back", "device", device, "err", err) // tried again at the next tick
			continue
		}
		bound = index
		a.warnDevice("network device %s is back: HTTP and rsync are served on it again", device)
	}
}

func (a *Appliance) warnDevice(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	a.console.Printf("%s", text)
	a.log.Warn("network device", "text", text)
}

// takeDevice is the first step of a start: the sockets may come from a parent,
// and the device may be another one than when they were opened.
func (a *Appliance) takeDevice(ctx context.Context) error {
	if a.config.Interface.Name == "" {
		return nil
	}
	return a.listenAnew(ctx, deviceWait)
}

// listenAnew binds the open sockets to the device that has the name now.
func (a *Appliance) listenAnew(ctx context.Context, wait time.Duration) error {
	c := a.config.Interface
	if c.Configure {
		ctx, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		if err := nic.Configure(ctx, c.Name, c.Address); err != nil {
			return err
		}
	}
	return errors.Join(nic.Bind(a.sockets.HTTP, c.Name), nic.Bind(a.sockets.Rsync, c.Name))
}
