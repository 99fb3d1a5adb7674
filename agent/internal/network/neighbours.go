package network

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"edeploy/agent/internal/lldp"
)

// Times and bounds of listening to neighbours.
const (
	lookTime      = time.Second / 2       // between looks at the cards
	announceTime  = time.Second           // between announcements, and how many there are: as of a switch that has
	announcements = 4                     // a new neighbour (IEEE 802.1AB-2009 clause 9.2.5.19, txFastInit)
	announceTTL   = 30 * time.Second      // how long a switch knows us when we go without a word
	frameTime     = 10 * time.Millisecond // between frames of a card: more than that is no switch's work
	maxNeighbours = 4                     // of one card
)

// Neighbours hears what switches say on each Ethernet card (LLDP), from the moment
// that the card is up. A switch that hears of a new neighbour says so at once, and
// not only every 30 s; so each card with a carrier announces the machine until it has
// heard something, at most four times.
type Neighbours struct {
	stop    context.CancelFunc
	working sync.WaitGroup

	mu       sync.Mutex
	cards    map[int]*card // by the device's index
	problems map[string]error
}

// card is one that is listened on.
type card struct {
	name  string
	conn  *packet.Conn
	mac   net.HardwareAddr
	since time.Time // the carrier came; zero: there is none
	heard []neighbour
}

// neighbour is what was heard last of one; nobody is two of them.
type neighbour struct {
	who   string
	text  string
	until time.Time
}

// Listen begins. Close ends it.
func Listen(ctx context.Context) *Neighbours {
	ctx, stop := context.WithCancel(ctx)
	n := &Neighbours{stop: stop, cards: map[int]*card{}, problems: map[string]error{}}
	n.look(ctx)
	n.working.Go(func() {
		for wait(ctx, lookTime) {
			n.look(ctx)
		}
	})
	return n
}

// Close takes the announcements back, and returns when nothing listens any more.
func (n *Neighbours) Close() {
	n.stop()
	n.working.Wait()
}

// Heard is what was heard by device, each neighbour's as lldptool prints it. A card
// on which nothing was heard is waited for until its carrier has been there for the
// patience given. An error names the cards that could not be listened on.
func (n *Neighbours) Heard(ctx context.Context, patience time.Duration) (map[string]string, error) {
	for {
		now := time.Now()
		found, missing, err := n.state(now, patience)
		if missing <= 0 || !wait(ctx, min(missing, lookTime/5)) {
			return found, err
		}
	}
}

// state is what is known now, and how long to wait for more.
func (n *Neighbours) state(now time.Time, patience time.Duration) (found map[string]string, missing time.Duration, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	found = map[string]string{}
	for _, c := range n.cards {
		text := c.text(now)
		if text != "" {
			found[c.name] = text
		} else if !c.since.IsZero() {
			missing = max(missing, c.since.Add(patience).Sub(now))
		}
	}
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(n.problems)) {
		problems = append(problems, fmt.Errorf("%s: %w", name, n.problems[name]))
	}
	return found, missing, errors.Join(problems...)
}

// text is what still holds of what the neighbours said.
func (c *card) text(now time.Time) string {
	var text string
	for _, said := range c.heard {
		if now.Before(said.until) {
			text += said.text
		}
	}
	return text
}

// take keeps what a neighbour says, instead of what it said before.
func (c *card) take(pdu lldp.PDU, now time.Time) {
	who := pdu.Sender()
	c.heard = slices.DeleteFunc(c.heard, func(old neighbour) bool { return old.who == who || !now.Before(old.until) })
	if pdu.TTL() > 0 && len(c.heard) < maxNeighbours {
		c.heard = append(c.heard, neighbour{who, pdu.Text(), now.Add(pdu.TTL())})
		slices.SortFunc(c.heard, func(a, b neighbour) int { return strings.Compare(a.who, b.who) })
	}
}

// look begins to listen on cards that are up, and notes their carriers.
func (n *Neighbours) look(ctx context.Context) {
	links, err := linkList()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.problem("cards", err)
	for _, link := range links {
		attrs := link.Attrs()
		if !isPort(link) || attrs.EncapType != "ether" || attrs.RawFlags&unix.IFF_UP == 0 {
			continue
		}
		c := n.cards[attrs.Index]
		if c == nil {
			c = &card{name: attrs.Name, mac: attrs.HardwareAddr}
			c.conn, err = openLLDP(attrs.Index)
			n.problem(attrs.Name, err)
			if err != nil {
				continue // the next look tries again
			}
			n.cards[attrs.Index] = c
			n.working.Go(func() { n.listen(ctx, attrs.Index, c) })
		}
		n.carrier(ctx, c, attrs.RawFlags&unix.IFF_LOWER_UP != 0)
	}
}

// problem notes why a card is not listened on; nil: it is.
func (n *Neighbours) problem(name string, err error) {
	delete(n.problems, name)
	if err != nil {
		n.problems[name] = err
	}
}

// carrier notes that a cable was plugged in, perhaps another one, or pulled.
func (n *Neighbours) carrier(ctx context.Context, c *card, now bool) {
	if now == !c.since.IsZero() {
		return
	}
	c.since, c.heard = time.Time{}, nil
	if now {
		since := time.Now()
		c.since = since
		n.working.Go(func() { n.announce(ctx, c, since) })
	}
}

// openLLDP opens a socket that gets a device's LLDPDUs and nothing else.
func openLLDP(index int) (*packet.Conn, error) {
	conn, err := packet.Listen(&net.Interface{Index: index}, packet.Datagram, lldp.Protocol, nil)
	if err != nil {
		return nil, fmt.Errorf("listen to LLDP: %w", err)
	}
	if err := joinGroup(conn, index); err != nil {
		return nil, errors.Join(fmt.Errorf("listen to LLDP: %w", err), conn.Close())
	}
	return conn, nil
}

// joinGroup has the device let frames in that are for the group.
func joinGroup(conn *packet.Conn, index int) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	group := unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_MULTICAST, Alen: uint16(len(lldp.NearestBridge))}
	copy(group.Address[:], lldp.NearestBridge)
	var joined error
	if err := raw.Control(func(fd uintptr) {
		joined = unix.SetsockoptPacketMreq(int(fd), unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &group)
	}); err != nil {
		return err
	}
	return os.NewSyscallError("join group", joined)
}

// listen takes what comes until ctx ends, or the device is down or gone; then the
// next look may begin anew.
func (n *Neighbours) listen(ctx context.Context, index int, c *card) {
	defer context.AfterFunc(ctx, func() { _ = c.conn.SetReadDeadline(time.Unix(1, 0)) })() // it ends the read
	buffer := make([]byte, lldp.MaxBytes+1)
	for {
		size, _, err := c.conn.ReadFrom(buffer)
		if err != nil {
			break
		}
		if pdu, err := lldp.Parse(buffer[:size]); err == nil {
			n.mu.Lock()
			c.take(pdu, time.Now())
			n.mu.Unlock()
		}
		wait(ctx, frameTime)
	}
	if ctx.Err() != nil {
		_ = c.say(0) // whoever does not hear it forgets us a little later
	}
	_ = c.conn.Close()
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.cards, index)
}

// say announces the machine on a card.
func (c *card) say(ttl time.Duration) error {
	_, err := c.conn.WriteTo(lldp.Announcement(c.name, c.mac, ttl), &packet.Addr{HardwareAddr: lldp.NearestBridge})
	return err
}

// announce says who is here until somebody answers, or the cable is pulled.
func (n *Neighbours) announce(ctx context.Context, c *card, since time.Time) {
	for range announcements {
		n.mu.Lock()
		over := len(c.heard) > 0 || !c.since.Equal(since)
		n.mu.Unlock()
		if over || c.say(announceTTL) != nil || !wait(ctx, announceTime) {
			return
		}
	}
}
