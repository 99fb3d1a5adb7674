// Package pxe boots machines over the network: DHCP gives them an address and
// the name of a loader, TFTP the loader (iPXE, or GRUB behind shim), HTTP a
// script for it, the agent's kernel and its initrd.
//
// What a machine boots is not decided here: for every script the Policy is
// asked. DHCP is answered on one network device only, TFTP on one address.
//
// It reads the boot directory (vmlinuz, initrd.pxe, undionly.kpxe,
// snponly.efi, shimx64.efi, grubx64.efi) and keeps the leases in text files.
package pxe

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"edeploy/pxe/internal/device"
	"edeploy/pxe/internal/dhcp"
	"edeploy/pxe/internal/firmware"
	"edeploy/pxe/internal/grub"
	"edeploy/pxe/internal/httpboot"
	"edeploy/pxe/internal/ladder"
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
	subnets []dhcp.Subnet
	ladder  *ladder.Ladder
	dhcp    *dhcp.Server // nil: DHCP is off
	tftp    *tftp.Server
	radv    *radv.Server // nil: the device has no IPv6
	ready   chan struct{}

	readyOnce sync.Once
	quiet     atomic.Pointer[string] // see Quiet

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
	root, err := os.OpenRoot(conf.BootDir)
	if err != nil {
		return nil, fmt.Errorf("boot services: boot directory: %w", err)
	}
	s := &Server{
		conf: conf, log: conf.Log, root: root,
		ready: make(chan struct{}),
	}
	var broken []error
	if s.subnets, broken, err = conf.subnets(); err != nil {
		return nil, fmt.Errorf("boot services: %w", err)
	}
	for _, err := range broken {
		conf.Log.Error("lease file is broken", "err", err)
		s.note("", "", netip.Addr{}, fmt.Sprintf("the lease file is broken: %v", err))
	}
	s.openLadder()
	s.handler = &httpboot.Handler{
		BaseURL: conf.baseURL(), Root: root, Args: conf.machineLine,
		Action: conf.action, Disks: conf.BootDisks, Reached: s.ladder.Script, Notify: s.note, Log: conf.Log,
	}
	if conf.Mode != ModeOff {
		s.dhcp = &dhcp.Server{
			Network: dhcp.Network{
				Self: conf.Address.Addr(), Subnets: s.subnets, Alone: conf.alone, Loader: s.loader, Runs: s.ladder.Agent,
				ScriptURL: s.handler.ScriptURL, FileURL: s.handler.FileURL, HasFile: s.hasFile,
			},
			Proxy: conf.Mode == ModeProxy, Notify: s.noteAnswer, Log: conf.Log,
		}
	}
	first, err := s.handler.GRUBFirst()
	if err != nil {
		return nil, fmt.Errorf("boot services: %w", err)
	}
	made := func(name string) (string, bool) { return first, slices.Contains(grub.Names, name) }
	s.tftp = &tftp.Server{Root: root, Made: made, Log: conf.Log, Notify: s.noteTransfer}
	return s, nil
}

// Handler answers the URL paths below /boot and /grub.
func (s *Server) Handler() http.Handler { return s.handler }

// Ready is closed when DHCP and TFTP are listening, and it is known whether
// another DHCP server answers on the network: see Quiet.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// DHCPAddr is where DHCP listens, once Ready; the zero value when it is off.
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
	s.tftpAddr = s.tftp.Addr()
	s.conf.TFTPListen = s.tftpAddr
	if s.dhcp != nil {
		s.dhcpAddr = s.dhcp.Addr()
		s.conf.DHCPListen = s.dhcpAddr
	}
	s.log.Info("boot services", "mode", s.conf.Mode, "dhcp", s.DHCPAddr(), "device", s.conf.Interface, "tftp", s.TFTPAddr())
	for _, name := range []string{httpboot.Kernel, httpboot.Initrd, "undionly.kpxe"} {
		if !s.hasFile(name) {
			s.log.Warn("boot directory lacks a file that machines need", "dir", s.conf.BootDir, "file", name)
		}
	}

	var remembering sync.WaitGroup
	remembering.Go(func() { s.ladder.Run(ctx) })
	defer remembering.Wait()
	for {
		err := s.serve(ctx)
		if ctx.Err() != nil {
			return nil
		}
		s.say("no machine can boot: %v", err)
		if !s.listenAgain(ctx, err) {
			return nil
		}
		s.say("machines can boot again: the boot services listen on %s", cmp.Or(s.conf.Interface, s.tftpAddr.String()))
	}
}

// serve serves on the open sockets until ctx ends, the device goes away, or one
// of the services fails; then they are closed.
func (s *Server) serve(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	if s.looking() {
		s.dhcp.Be(dhcp.Looking)
		g.Go(func() error { return s.alone(ctx) })
	} else {
		s.markReady("")
	}
	if s.dhcp != nil {
		g.Go(func() error { return s.dhcp.Serve(ctx) })
	}
	g.Go(func() error { return s.tftp.Serve(ctx) })
	if s.radv != nil {
		g.Go(func() error { s.quietIPv6(ctx); return nil })
	}
	if s.watcher != nil {
		g.Go(func() error { return s.watcher.Await(ctx, s.conf.Interface, s.bound) })
	}
	return g.Wait()
}

// say logs a sentence about the services themselves and makes it an event
// without a machine.
func (s *Server) say(sentence string, args ...any) {
	sentence = fmt.Sprintf(sentence, args...)
	s.log.Warn("boot services", "sentence", sentence)
	s.note("", "", netip.Addr{}, sentence)
}

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

// noteTransfer tells about a file that went out over TFTP, to a machine whose
// address was given here.
func (s *Server) noteTransfer(client netip.Addr, name string, bytes int64, took time.Duration) {
	for _, subnet := range s.subnets {
		if subnet.Leases == nil {
			return
		}
		if mac, ok := subnet.Leases.Machine(client); ok {
			s.note(mac.String(), "", client, fmt.Sprintf("fetched %s, %d bytes in %.1f s", name, bytes, took.Seconds()))
		}
	}
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
