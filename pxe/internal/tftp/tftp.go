// Package tftp serves the files of one directory, read-only, to boot ROMs
// (RFC 1350 with the options blksize and tsize, RFC 2347 to 2349).
//
// TFTP only carries the boot loaders of some hundred kilobytes; kernel and
// initrd go over HTTP.
package tftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/pin/tftp/v3"
	"golang.org/x/sys/unix"
)

// Limits.
const (
	// DefaultSessions is how many transfers may run at once. A request beyond
	// it is not answered; boot ROMs ask again after a few seconds.
	DefaultSessions = 256
	timeout         = 2 * time.Second // until a block is sent again
	retries         = 6
)

// Server serves the files of Root.
type Server struct {
	Root     *os.Root
	Sessions int // most transfers at once; 0: DefaultSessions
	Log      *slog.Logger
	// Notify is called after a complete transfer.
	Notify func(client netip.Addr, name string, bytes int64, took time.Duration)

	conn *gate
}

// Listen opens the socket on one address, and on one device if it is named.
func (s *Server) Listen(device string, listen netip.AddrPort) error {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		if device == "" {
			return nil
		}
		var err error
		if e := raw.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), device) }); e != nil {
			return e
		}
		if err != nil {
			return fmt.Errorf("bind to network device %s: %w", device, err)
		}
		return nil
	}}
	conn, err := config.ListenPacket(context.Background(), "udp4", listen.String())
	if err != nil {
		return fmt.Errorf("TFTP: %w", err)
	}
	if s.Sessions == 0 {
		s.Sessions = DefaultSessions
	}
	s.conn = newGate(conn, s.Sessions, s.Log)
	return nil
}

// Addr is the address that Listen bound.
func (s *Server) Addr() netip.AddrPort { return s.conn.LocalAddr().(*net.UDPAddr).AddrPort() }

// Serve serves until ctx ends; running transfers are given up.
func (s *Server) Serve(ctx context.Context) error {
	server := tftp.NewServer(s.read, nil)
	server.SetTimeout(timeout)
	server.SetRetries(retries)
	// The library sizes blocks by the device only for a plain UDP socket; the
	// gate is not one. A block must fit the frame: many ROMs cannot put
	// fragments together.
	server.SetBlockSizeNegotiation(false)
	server.SetBlockSize(blockSize(s.Addr().Addr()))
	done := make(chan error, 1)
	go func() { done <- server.Serve(s.conn) }()
	select {
	case err := <-done:
		return fmt.Errorf("TFTP: %w", err)
	case <-ctx.Done():
	}
	s.conn.Close()
	go server.Shutdown() // it would wait for every transfer's last retry
	<-done
	return nil
}

// blockSize is the largest block whose packet fits a frame of the device that
// has the address: the MTU without the headers of IP, UDP and TFTP.
func blockSize(own netip.Addr) int {
	const headers, ethernet = 20 + 8 + 4, 1500
	mtu := ethernet
	devices, err := net.Interfaces()
	if err != nil {
		return mtu - headers
	}
	for _, device := range devices {
		addrs, _ := device.Addrs()
		for _, a := range addrs {
			if prefix, ok := a.(*net.IPNet); ok && prefix.IP.Equal(own.AsSlice()) {
				mtu = device.MTU
			}
		}
	}
	return min(max(mtu-headers, 512), 65464)
}

// read sends one file. The library calls it on a goroutine of its own; an
// error that it returns is sent to the client.
func (s *Server) read(name string, to io.ReaderFrom) error {
	peer := to.(tftp.OutgoingTransfer).RemoteAddr()
	client := peer.AddrPort()
	defer s.conn.finished(client)
	log := s.Log.With("client", client.Addr().Unmap().String(), "file", name)
	file, size, err := s.open(name)
	if err != nil {
		log.Warn("TFTP request refused", "err", err)
		return err
	}
	defer file.Close()
	to.(tftp.OutgoingTransfer).SetSize(size)
	began := time.Now()
	n, err := to.ReadFrom(file)
	switch {
	case err != nil && n == 0 && isAbort(err):
		// A ROM first asks for the size and breaks off, then asks again.
		log.Debug("TFTP size asked", "bytes", size)
	case err != nil:
		log.Warn("TFTP transfer broken off", "sent_bytes", n, "err", err)
	default:
		log.Info("TFTP", "bytes", n, "seconds", time.Since(began).Seconds())
		if s.Notify != nil {
			s.Notify(client.Addr().Unmap(), name, n, time.Since(began))
		}
	}
	return nil // the library has told the client
}

// isAbort tells whether the client sent an error packet, as it does when it
// only wanted the size.
func isAbort(err error) bool {
	return strings.HasPrefix(err.Error(), "sending block 0: code=")
}

// open opens a file of the directory by the name a boot ROM sent.
func (s *Server) open(name string) (*os.File, int64, error) {
	file, err := s.Root.Open(cleanName(name))
	if err != nil {
		return nil, 0, plain(err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a file")
	}
	if err != nil {
		file.Close()
		return nil, 0, err
	}
	return file, info.Size(), nil
}

// cleanName makes a path of the directory of what ROMs send: a leading slash,
// backslashes, or the byte 0xff (the end mark of the DHCP options, which some
// Intel ROMs take for the last letter of the name).
func cleanName(name string) string {
	for len(name) > 0 && name[len(name)-1] == 0xff {
		name = name[:len(name)-1]
	}
	name = strings.ReplaceAll(name, `\`, "/")
	return strings.TrimLeft(name, "/")
}

// plain is a file error without the path, which the client knows.
func plain(err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}

// Close closes the socket of a server that is not going to serve.
func (s *Server) Close() error { return s.conn.Close() }
