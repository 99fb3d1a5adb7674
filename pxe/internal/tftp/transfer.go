package tftp

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Times of a transfer.
const (
	// DefaultPatience is how long a client may be silent, and the window in
	// which it must take minPace bytes.
	DefaultPatience = 10 * time.Second
	minPace         = 4096
	firstPause      = time.Second // until a packet is sent again; each further pause is twice as long
	lastPause       = 4 * time.Second
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

// sender sends to one client, over a socket that is connected to it.
type sender struct {
	conn     *net.UDPConn
	patience time.Duration
	heard    func() // called for the first acknowledgement
	first    bool   // heard has been called

	since time.Time // the window of the pace
	taken int       // bytes acknowledged in it
}

// send sends the accepted options, if there are any, and the data in blocks.
// It answers how many bytes were acknowledged.
func (s *sender) send(data io.Reader, accepted []option, block int) (sent int64, err error) {
	s.since = time.Now()
	if len(accepted) > 0 {
		if err := s.deliver(optionsPacket(accepted), 0); err != nil {
			return 0, err
		}
	}
	packet := make([]byte, 4+block)
	binary.BigEndian.PutUint16(packet, opData)
	for number := uint16(1); ; number++ { // goes round after 65535, as every client expects
		n, err := io.ReadFull(data, packet[4:])
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			s.refuse(refusal{errOther, "the file cannot be read"})
			return sent, fmt.Errorf("read: %w", err)
		}
		binary.BigEndian.PutUint16(packet[2:], number)
		if err := s.deliver(packet[:4+n], number); err != nil {
			return sent, err
		}
		sent += int64(n)
		if n < block {
			return sent, nil
		}
		if !s.inPace(n, time.Now()) {
			return sent, errSlow
		}
	}
}

// inPace counts what the client took; false: too little in a window.
func (s *sender) inPace(n int, now time.Time) bool {
	s.taken += n
	if now.Sub(s.since) < s.patience {
		return true
	}
	enough := s.taken >= minPace
	s.since, s.taken = now, 0
	return enough
}

// refuse tells the client an error; it is not acknowledged.
func (s *sender) refuse(r refusal) { _, _ = s.conn.Write(errorPacket(r)) }

// deliver sends a packet until it is acknowledged. Only time makes it send
// again, never an old acknowledgement: each packet would go out twice from
// then on (RFC 1123 section 4.2.3.1).
func (s *sender) deliver(packet []byte, number uint16) error {
	limit := time.Now().Add(s.patience)
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		if _, err := s.conn.Write(packet); err != nil && !isLoss(err) {
			return ended(err)
		}
		until := time.Now().Add(pause)
		if until.After(limit) {
			until = limit
		}
		err := s.await(number, until)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		if !time.Now().Before(limit) {
			return errSilent
		}
	}
}

// await waits for the acknowledgement.
func (s *sender) await(number uint16, until time.Time) error {
	if err := s.conn.SetReadDeadline(until); err != nil {
		return ended(err)
	}
	buf := make([]byte, 1024)
	for {
		n, err := s.conn.Read(buf)
		if err != nil && isLoss(err) {
			continue // the error was reported and is over
		}
		if err != nil {
			return ended(err)
		}
		if n < 4 {
			continue
		}
		code := binary.BigEndian.Uint16(buf[2:])
		switch binary.BigEndian.Uint16(buf) {
		case opError:
			text, _, _ := bytes.Cut(buf[4:n], []byte{0})
			return clientError{code, string(text)}
		case opAck:
			if code != number {
				continue
			}
			if !s.first {
				s.first = true
				s.heard()
			}
			return nil
		}
	}
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

// netascii is text as TELNET sends it (RFC 764): line ends are CR LF, a CR
// alone is CR NUL.
type netascii struct {
	from *bufio.Reader
	next byte
	more bool // next has yet to be read
}

func (a *netascii) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if a.more {
			p[n], a.more = a.next, false
			n++
			continue
		}
		c, err := a.from.ReadByte()
		if err != nil {
			return n, err
		}
		switch c {
		case '\n':
			c, a.next, a.more = '\r', '\n', true
		case '\r':
			a.next, a.more = 0, true
		}
		p[n] = c
		n++
	}
	return n, nil
}
