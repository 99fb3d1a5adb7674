package tftp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Times of a transfer.
const (
	// DefaultPatience is how long a client may be silent, and the window in
	// which it must take minPace bytes.
	DefaultPatience = 10 * time.Second
	minPace         = 4096
	// resendAfter is when a block is sent again; later resends wait longer, up to
	// four times as long.
	resendAfter = 250 * time.Millisecond
)

// Why a transfer ended early.
var (
	errSilent = errors.New("the client does not answer")
	errSlow   = fmt.Errorf("the client takes less than %d bytes in %s", minPace, DefaultPatience)
	errGone   = errors.New("the client has closed its port")
)

// clientError is an error packet of the client. There is no answer to it.
type clientError struct {
	code uint16
	text string
}

func (e clientError) Error() string {
	return fmt.Sprintf("the client breaks off: error %d %q", e.code, e.text)
}

// session is the wire of one transfer, on which the library speaks TFTP as a
// server with a single client. The library would open a socket for it that is
// bound to no device and answer an error with an error; the session has its
// own socket, and hands on only what the library waits for: the
// acknowledgement of the block that was sent, once, or an error, once. So the
// library never sees a packet after the last one, and every early end is
// decided here.
type session struct {
	*net.UDPConn // connected to the client
	client       *net.UDPAddr
	patience     time.Duration
	heard        func() // called for the first acknowledgement

	mu       sync.Mutex
	request  []byte // which the library reads first
	block    uint16 // that was sent last; 0: the options
	size     int    // of its data
	answered bool   // its acknowledgement, or an error, was handed on
	cause    error  // why the transfer ends early
	over     bool   // the library has finished
	sent     int64  // bytes acknowledged
	since    time.Time
	taken    int // bytes acknowledged since then
}

// ReadFrom is the library's next packet.
func (s *session) ReadFrom(b []byte) (int, net.Addr, error) {
	if n := s.takeRequest(b); n > 0 {
		return n, s.client, nil
	}
	for {
		if err := s.window(); err != nil {
			return 0, nil, err
		}
		n, err := s.Read(b)
		if n = s.take(b, n, err); n > 0 {
			return n, s.client, nil
		}
	}
}

func (s *session) takeRequest(b []byte) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := copy(b, s.request)
	s.request = nil
	return n
}

// window sets how long to wait for the client.
func (s *session) window() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	until := s.since.Add(s.patience)
	switch {
	case s.over:
		return net.ErrClosed
	case s.cause != nil && s.answered: // the library's next step ends it
		until = time.Time{}
	case s.cause != nil:
		until = time.Unix(1, 0)
	}
	return s.UDPConn.SetReadDeadline(until)
}

// take answers the length of the packet in b that is handed on; 0: none.
func (s *session) take(b []byte, n int, err error) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.over || s.answered && s.cause != nil:
		return 0
	case s.cause != nil:
	case err == nil:
		n = s.receive(b[:n])
		if s.cause == nil {
			s.checkPace(time.Now())
		}
		if n > 0 {
			s.answered = true
			return n
		}
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.checkPace(time.Now())
	case !isLoss(err):
		s.cause = ended(err)
	}
	if s.cause == nil || s.answered {
		return 0
	}
	s.answered = true
	return copy(b, errorPacket(refusal{errOther, "ended"}))
}

// receive looks at a packet of the client and answers its length if it is for
// the library.
func (s *session) receive(packet []byte) int {
	if len(packet) < 4 {
		return 0
	}
	code := binary.BigEndian.Uint16(packet[2:])
	switch binary.BigEndian.Uint16(packet) {
	case opError:
		text, _, _ := bytes.Cut(packet[4:], []byte{0})
		s.cause = clientError{code, string(text)}
	case opAck:
		if s.answered || code != s.block {
			return 0
		}
		if s.heard != nil {
			s.heard()
			s.heard = nil
		}
		s.sent += int64(s.size)
		s.taken += max(s.size, 1)
		return len(packet)
	}
	return 0
}

// checkPace ends a transfer whose client took too little in a window.
func (s *session) checkPace(now time.Time) {
	if now.Sub(s.since) < s.patience {
		return
	}
	switch {
	case s.taken == 0:
		s.cause = errSilent
	case s.taken < minPace:
		s.cause = errSlow
	}
	s.since, s.taken = now, 0
}

// WriteTo sends a packet of the library; one that is lost is sent again by it.
func (s *session) WriteTo(packet []byte, _ net.Addr) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause != nil {
		return 0, s.cause
	}
	switch binary.BigEndian.Uint16(packet) {
	case opData:
		if block := binary.BigEndian.Uint16(packet[2:]); block != s.block {
			s.block, s.size, s.answered = block, len(packet)-4, false
		}
	case opOptions:
		s.block, s.size = 0, 0
	}
	if _, err := s.Write(packet); err != nil && !isLoss(err) {
		s.cause = ended(err)
		return 0, s.cause
	}
	return len(packet), nil
}

// end ends the transfer early.
func (s *session) end(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause == nil {
		s.cause = cause
	}
	_ = s.UDPConn.SetReadDeadline(time.Unix(1, 0)) // fails on a closed socket only
}

// SetReadDeadline is how the library ends the reading; deadlines are the
// session's own.
func (s *session) SetReadDeadline(time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	return s.UDPConn.SetReadDeadline(time.Unix(1, 0))
}

// outcome is how many bytes were acknowledged, and why the transfer ended
// early if it did.
func (s *session) outcome() (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent, s.cause
}

// isLoss tells whether an error of the network is no more than a lost packet.
func isLoss(err error) bool {
	for _, passing := range []error{unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN, unix.ENETDOWN, unix.ENOBUFS, unix.ENOMEM} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}

// ended gives the usual end its name.
func ended(err error) error {
	if errors.Is(err, unix.ECONNREFUSED) {
		return errGone
	}
	return err
}
