// Package pxe boots machines over the network: DHCP gives them an address and
// the name of a loader, TFTP the loader (iPXE), HTTP an iPXE script, the
// agent's kernel and its initrd.
//
// What a machine boots is not decided here: for every script the Policy is
// asked. DHCP is answered on one network device only, TFTP on one address.
//
// It reads the boot directory (vmlinuz, initrd.pxe, undionly.kpxe,
// snponly.efi) and keeps the leases in one text file.
package pxe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"
	"unicode"

	"edeploy/pxe/internal/device"
	"edeploy/pxe/internal/dhcp"
	"edeploy/pxe/internal/firmware"
	"edeploy/pxe/internal/httpboot"
	"edeploy/pxe/internal/ipxe"
	"edeploy/pxe/internal/lease"
	"edeploy/pxe/internal/radv"
	"edeploy/pxe/internal/tftp"
	"edeploy/server/api"
	"edeploy/server/wire"

	"golang.org/x/sync/errgroup"
)

// Policy is the one question that the boot services ask.
type Policy interface {
	// BootAction says what a machine boots now. It is called for every script
	// a machine fetches, from many goroutines, and should answer within a
	// second. mac is as wire.NormalMAC writes it; uuid is the SMBIOS UUID in
	// lower case, or "".
	BootAction(mac, uuid string) wire.BootAction
}

// Server is the boot services.
type Server struct {
	conf    Config
	log     *slog.Logger
	root    *os.Root
	handler *httpboot.Handler
	dhcp    *dhcp.Server
	tftp    *tftp.Server
	radv    *radv.Server // nil: the device has no IPv6
	ready   chan struct{}

	watcher            *device.Watcher
	bound              int            // number of the device that the sockets are bound to
	dhcpAddr, tftpAddr netip.AddrPort // once Ready
}

// New checks the configuration, opens the boot directory and reads the leases.
// It opens no socket: Run does.
func New(conf Config) (*Server, error) {
	conf, err := conf.checked()
	if err != nil {
		return nil, fmt.Errorf("boot services: %w", err)
	}
	leases, err := lease.Open(lease.Config{
		First: conf.RangeFirst, Last: conf.RangeLast, Time: conf.LeaseTime, File: conf.LeaseFile,
	})
	if err != nil {
		return nil, fmt.Errorf("boot services: leases: %w", err)
	}
	root, err := os.OpenRoot(conf.BootDir)
	if err != nil {
		return nil, fmt.Errorf("boot services: boot directory: %w", err)
	}
	s := &Server{
		conf: conf, log: conf.Log, root: root, ready: make(chan struct{}),
	}
	if err := leases.Broken(); err != nil {
		conf.Log.Error("lease file is broken", "err", err)
		s.note("", "", netip.Addr{}, fmt.Sprintf("the lease file is broken: %v", err))
	}
	s.handler = &httpboot.Handler{
		BaseURL: conf.baseURL(), Root: root, Args: conf.machineLine,
		Action: conf.Policy.BootAction, Disk: conf.BootDisk, Notify: s.note, Log: conf.Log,
	}
	s.dhcp = &dhcp.Server{
		Network: dhcp.Network{
			Prefix: conf.Address, Router: conf.Router, DNS: conf.DNS,
			ScriptURL: s.handler.ScriptURL, FileURL: s.handler.FileURL, HasFile: s.hasFile,
		},
		Leases: leases, Notify: s.noteAnswer, Log: conf.Log,
	}
	s.tftp = &tftp.Server{Root: root, Log: conf.Log, Notify: func(client netip.Addr, name string, bytes int64, took time.Duration) {
		if mac, ok := leases.Machine(client); ok {
			s.note(mac.String(), "", client, fmt.Sprintf("fetched %s, %d bytes in %.1f s", name, bytes, took.Seconds()))
		}
	}}
	return s, nil
}

// Handler answers the URL paths /boot/ipxe and /boot/file/NAME.
func (s *Server) Handler() http.Handler { return s.handler }

// Ready is closed when DHCP and TFTP are listening.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// DHCPAddr is where DHCP listens, once Ready.
func (s *Server) DHCPAddr() netip.AddrPort { return s.dhcpAddr }

// TFTPAddr is where TFTP listens, once Ready.
func (s *Server) TFTPAddr() netip.AddrPort { return s.tftpAddr }

// String names the component.
func (s *Server) String() string { return "boot services" }

// Run serves until ctx ends; it can be called once. An error is one of the
// first start: a port is taken, the device is missing. Later ones are waited
// out.
func (s *Server) Run(ctx context.Context) error {
	if s.conf.Interface != "" {
		s.watcher = device.Watch()
		defer s.watcher.Close()
	}
	if err := s.listen(); err != nil {
		return fmt.Errorf("boot services: %w", err)
	}
	// Sockets that are opened anew get the same ports, also those of tests.
	s.dhcpAddr, s.tftpAddr = s.dhcp.Addr(), s.tftp.Addr()
	s.conf.DHCPListen, s.conf.TFTPListen = s.dhcpAddr, s.tftpAddr
	s.log.Info("boot services", "dhcp", s.DHCPAddr(), "device", s.conf.Interface, "tftp", s.TFTPAddr(),
		"range", s.conf.RangeFirst.String()+"-"+s.conf.RangeLast.String())
	for _, name := range []string{httpboot.Kernel, httpboot.Initrd, "undionly.kpxe"} {
		if !s.hasFile(name) {
			s.log.Warn("boot directory lacks a file that machines need", "dir", s.conf.BootDir, "file", name)
		}
	}
	close(s.ready)

	for {
		err := s.serve(ctx)
		if ctx.Err() != nil {
			return nil
		}
		s.say("no machine can boot: %v", err)
		if !s.listenAgain(ctx, err) {
			return nil
		}
		s.say("machines can boot again: DHCP and TFTP listen on %s", cmp.Or(s.conf.Interface, s.tftpAddr.String()))
	}
}

// serve serves on the open sockets until ctx ends, the device goes away, or one
// of the services fails; then they are closed.
func (s *Server) serve(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.dhcp.Serve(ctx) })
	g.Go(func() error { return s.tftp.Serve(ctx) })
	if s.radv != nil {
		g.Go(func() error { s.quietIPv6(ctx); return nil })
	}
	if s.watcher != nil {
		g.Go(func() error { return s.watcher.Await(ctx, s.conf.Interface, s.bound) })
	}
	return g.Wait()
}

// listenPause is between two tries to open the sockets.
const listenPause = 500 * time.Millisecond

// listenAgain tries until the sockets are open; false: ctx ended first. Each
// new reason why they are not is said.
func (s *Server) listenAgain(ctx context.Context, reason error) bool {
	said := reason.Error()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(listenPause):
		}
		if s.watcher != nil && device.Index(s.conf.Interface) == 0 {
			s.watcher.Pause(ctx)
			continue
		}
		err := s.listen()
		if err == nil {
			return true
		}
		if err.Error() != said {
			said = err.Error()
			s.say("no machine can boot yet: %v", err)
		}
	}
}

// say logs a sentence about the services themselves and makes it an event
// without a machine.
func (s *Server) say(sentence string, args ...any) {
	sentence = fmt.Sprintf(sentence, args...)
	s.log.Warn("boot services", "sentence", sentence)
	s.note("", "", netip.Addr{}, sentence)
}

func (s *Server) listen() error {
	if s.watcher != nil {
		s.bound = device.Index(s.conf.Interface)
	}
	if err := s.tftp.Listen(s.conf.Interface, s.conf.TFTPListen); err != nil {
		return err
	}
	if err := s.dhcp.Listen(s.conf.Interface, s.conf.DHCPListen); err != nil {
		s.tftp.Close()
		return err
	}
	if s.conf.Interface == "" {
		return nil
	}
	s.radv = &radv.Server{Log: s.log}
	if err := s.radv.Listen(s.conf.Interface); err != nil {
		// Booting works without, it only takes longer.
		s.log.Warn("iPXE will wait for an IPv6 router", "device", s.conf.Interface, "err", err)
		s.radv = nil
	}
	return nil
}

// quietIPv6 spares iPXE its wait for an IPv6 router. The other services go on
// while it cannot.
func (s *Server) quietIPv6(ctx context.Context) {
	err := s.radv.Serve(ctx)
	for ctx.Err() == nil {
		if err != nil {
			s.log.Warn("iPXE will wait for an IPv6 router", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(quietPause):
		}
		if err = s.radv.Listen(s.conf.Interface); err == nil {
			err = s.radv.Serve(ctx)
		}
	}
}

// quietPause is between two tries to answer router solicitations.
const quietPause = 10 * time.Second

// hasFile tells whether the boot directory holds the file.
func (s *Server) hasFile(name string) bool {
	info, err := s.root.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

func (s *Server) noteAnswer(a dhcp.Answer) {
	sentence := a.Sentence
	if a.Client.Kind != firmware.Plain {
		sentence = fmt.Sprintf("%s: %s", a.Client.Kind, sentence)
	}
	s.note(a.MAC.String(), a.Client.UUID, a.Address, sentence)
}

// note tells a sentence for the history of the machine with this address;
// without one it is about the services themselves.
func (s *Server) note(mac, uuid string, _ netip.Addr, sentence string) {
	e := api.Event{Time: time.Now(), Name: mac, MAC: mac, UUID: uuid, Step: "boot", Status: "note", Message: sentence}
	if mac == "" {
		e.Name, e.Step = s.String(), ""
	}
	s.conf.OnEvent(e)
}

// kernelLine is the agent's kernel command line for a deployment; "" is the
// one of Args.
func (c Config) kernelLine(section string) string {
	args := c.Args
	if section != "" {
		args.Section = section
	}
	return strings.TrimSpace(c.KernelArgs + " " + args.String())
}

// machineLine is the kernel command line of one machine. The name of a section
// may be one that cannot stand there: then the machine boots with the default
// and the server, which knows where it belongs, decides.
func (c Config) machineLine(mac, uuid string) string {
	if c.Section == nil {
		return c.kernelLine("")
	}
	section := c.Section(mac, uuid)
	line := c.kernelLine(section)
	err := ipxe.CheckArgs(line)
	if err == nil && strings.ContainsFunc(section, unicode.IsSpace) {
		err = errors.New("kernel arguments cannot hold blanks")
	}
	if err != nil {
		c.Log.Error("section", "mac", mac, "section", section, "err", err)
		return c.kernelLine("")
	}
	return line
}
