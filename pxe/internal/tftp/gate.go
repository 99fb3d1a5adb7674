package tftp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// gate is the listening socket. It lets only well-formed read requests
// through, one per client port, and no more at a time than the limit, because
// the library makes a socket and a goroutine for whatever it sees. What is
// held back is not answered: the client sends it again.
type gate struct {
	net.PacketConn
	limit int
	log   *slog.Logger

	mu      sync.Mutex
	running map[netip.AddrPort]time.Time // transfers, and when they began
	full    bool                         // has been said
}

// maxTransfer is the age at which a transfer is not counted any more, should
// its end have been missed.
const maxTransfer = 10 * time.Minute

func newGate(conn net.PacketConn, limit int, log *slog.Logger) *gate {
	return &gate{PacketConn: conn, limit: limit, log: log, running: map[netip.AddrPort]time.Time{}}
}

// ReadFrom waits for a request that may start.
func (g *gate) ReadFrom(buf []byte) (int, net.Addr, error) {
	for {
		n, peer, err := g.PacketConn.ReadFrom(buf)
		if err != nil {
			// The library asks again at once; after Close that would be for ever.
			if !errors.Is(err, net.ErrClosed) {
				g.log.Error("TFTP receive", "err", err)
			}
			return n, peer, err
		}
		client := peer.(*net.UDPAddr).AddrPort()
		ok, refusal := judge(buf[:n])
		if refusal != "" {
			g.log.Debug("TFTP packet refused", "from", client, "err", refusal)
			g.refuse(peer, refusal)
		}
		if ok && g.admit(client, time.Now()) {
			return n, peer, nil
		}
	}
}

// admit takes a place for the client if there is one and it has none yet.
func (g *gate) admit(client netip.AddrPort, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if began, ok := g.running[client]; ok && now.Sub(began) < maxTransfer {
		return false // the same request once more; its answer is on the way
	}
	if len(g.running) >= g.limit {
		g.forgetOld(now)
	}
	if len(g.running) >= g.limit {
		if !g.full {
			g.log.Warn("TFTP requests wait: all places are taken", "transfers", g.limit)
		}
		g.full = true
		return false
	}
	g.running[client] = now
	return true
}

func (g *gate) forgetOld(now time.Time) {
	for client, began := range g.running {
		if now.Sub(began) >= maxTransfer {
			delete(g.running, client)
		}
	}
}

// finished gives the client's place back.
func (g *gate) finished(client netip.AddrPort) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.running, client)
	g.full = false
}

// Operation codes and error numbers, RFC 1350 section 5.
const (
	opRead    = 1
	opWrite   = 2
	opError   = 5
	errAccess = 2
)

// judge tells whether a packet is a read request, which has an operation code
// and at least two texts that end with a zero byte, and what to answer when it
// is another request. Anything else is not answered: an error must never be
// the answer to an error.
func judge(packet []byte) (ok bool, refusal string) {
	if len(packet) < 2 {
		return false, ""
	}
	texts := bytes.Split(packet[2:], []byte{0})
	switch binary.BigEndian.Uint16(packet) {
	case opWrite:
		return false, "this server is read-only"
	case opRead:
		if len(texts) < 3 || len(texts[0]) == 0 {
			return false, "malformed request"
		}
		return true, ""
	}
	return false, ""
}

// refuse answers a packet with an error.
func (g *gate) refuse(peer net.Addr, sentence string) {
	packet := binary.BigEndian.AppendUint16(nil, opError)
	packet = binary.BigEndian.AppendUint16(packet, errAccess)
	packet = append(append(packet, sentence...), 0)
	// A client that does not hear it gives up by itself.
	_, _ = g.PacketConn.WriteTo(packet, peer)
}
