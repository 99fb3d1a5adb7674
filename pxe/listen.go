package pxe

import (
	"context"
	"time"

	"edeploy/pxe/internal/device"
	"edeploy/pxe/internal/radv"
)

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

func (s *Server) listen() error {
	if s.watcher != nil {
		s.bound = device.Index(s.conf.Interface)
	}
	if err := s.tftp.Listen(s.conf.Interface, s.conf.TFTPListen); err != nil {
		return err
	}
	if s.dhcp != nil {
		if err := s.dhcp.Listen(s.conf.Interface, s.conf.DHCPListen); err != nil {
			s.tftp.Close()
			return err
		}
	}
	// On a network that is others' too, nobody is told about routers.
	if s.conf.Interface == "" || s.conf.Mode != ModeDHCP {
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
