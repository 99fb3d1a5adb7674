package lab_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"edeploy/integration/lab"
	"edeploy/integration/needs"
)

// The hosts of these tests, by the last byte of their address.
const everyone = 0xff

// frame is an Ethernet frame of an experimental type.
func frame(to, from byte, payload string) []byte {
	f := []byte{2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from, 0x88, 0xb5}
	if to == everyone {
		copy(f, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	}
	return append(f, payload...)
}

func newHub(t testing.TB) *lab.Hub {
	t.Helper()
	h, _ := newHubCapture(t)
	return h
}

func newHubCapture(t testing.TB) (hub *lab.Hub, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "hub.pcap")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	hub, err = lab.NewHub("rack", file, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hub.Close() })
	return hub, path
}

// receive is the payload of the next frame.
func receive(t *testing.T, p *lab.Port) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	f, err := p.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return string(f[14:])
}

// nothing fails if a frame waits at the port. The hub delivers before Send
// returns, so there is nothing to wait for.
func nothing(t *testing.T, p *lab.Port) {
	t.Helper()
	now, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 { // a select among ready cases picks any of them
		if f, err := p.Receive(now); err == nil {
			t.Errorf("port %s received %q, want nothing", p.Name(), f[14:])
		}
	}
}

func TestHubLearns(t *testing.T) {
	h := newHub(t)
	a, b, c := h.Port("a"), h.Port("b"), h.Port("c")

	a.Send(frame(everyone, 1, "who is there"))
	for _, p := range []*lab.Port{b, c} {
		if got := receive(t, p); got != "who is there" {
			t.Errorf("%s received %q", p.Name(), got)
		}
	}
	nothing(t, a)

	a.Send(frame(2, 1, "unknown: to all"))
	receive(t, b)
	receive(t, c)

	b.Send(frame(1, 2, "known: to a"))
	if got := receive(t, a); got != "known: to a" {
		t.Errorf("a received %q", got)
	}
	a.Send(frame(2, 1, "known: to b"))
	receive(t, b)
	nothing(t, c)

	c.Send(frame(everyone, 2, "host 2 moves to c"))
	receive(t, a)
	receive(t, b)
	a.Send(frame(2, 1, "to its new place"))
	receive(t, c)
	nothing(t, b)

	c.Close()
	a.Send(frame(2, 1, "forgotten: to all"))
	receive(t, b)
}

func TestPortCut(t *testing.T) {
	h := newHub(t)
	a, b := h.Port("a"), h.Port("b")

	a.Send(frame(everyone, 1, "waits in the queue"))
	b.Cut()
	a.Send(frame(everyone, 1, "in"))
	b.Send(frame(everyone, 2, "out"))
	nothing(t, a)
	nothing(t, b)
	b.Restore()
	nothing(t, b)
	a.Send(frame(everyone, 1, "after"))
	if got := receive(t, b); got != "after" {
		t.Errorf("b received %q", got)
	}

	b.Send(frame(everyone, 2, "odd"))
	receive(t, a)

	got := b.Counters()
	want := lab.Counters{
		SentFrames: 1, SentBytes: 17,
		ReceivedFrames: 2, ReceivedBytes: 2*14 + uint64(len("waits in the queueafter")),
		LostFrames: 3, LostBytes: 3*14 + uint64(len("waits in the queueinout")),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counters of b (-want +got):\n%s", diff)
	}
}

func TestSlowPortDelaysNobody(t *testing.T) {
	h := newHub(t)
	a, slow, b := h.Port("a"), h.Port("slow"), h.Port("b")
	const frames = 10_000
	for range frames {
		a.Send(frame(everyone, 1, "x"))
		receive(t, b)
	}
	if c := slow.Counters(); c.ReceivedFrames+c.LostFrames != frames || c.LostFrames == 0 {
		t.Errorf("counters of the slow port: %+v, want %d frames, some of them lost", c, frames)
	}
	if c := b.Counters(); c.LostFrames != 0 {
		t.Errorf("counters of the fast port: %+v, want none lost", c)
	}
}

func TestBadFrames(t *testing.T) {
	h := newHub(t)
	a, b := h.Port("a"), h.Port("b")
	for _, f := range [][]byte{nil, make([]byte, 13), make([]byte, 1<<20)} {
		a.Send(f)
	}
	nothing(t, b)
	if got := a.Counters().LostFrames; got != 3 {
		t.Errorf("%d frames are lost, want 3", got)
	}
}

func TestAwait(t *testing.T) {
	h := newHub(t)
	a, b := h.Port("a"), h.Port("b")
	found := make(chan []byte)
	asked := make(chan struct{}, 1)
	go func() {
		f, _ := h.Await(t.Context(), func(f []byte) bool {
			select {
			case asked <- struct{}{}:
			default:
			}
			return bytes.HasSuffix(f, []byte("DISCOVER"))
		})
		found <- f
	}()
	for waiting := true; waiting; { // until Await looks at the wire
		a.Send(frame(everyone, 1, "noise"))
		select {
		case <-asked:
			waiting = false
		default:
		}
	}
	a.Send(frame(everyone, 1, "DISCOVER"))
	if f := <-found; !bytes.HasSuffix(f, []byte("DISCOVER")) {
		t.Errorf("found %q", f)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Await(ctx, func([]byte) bool { return false }); !errors.Is(err, context.Canceled) {
		t.Errorf("Await with a context that is over: %v", err)
	}
	if err := b.AwaitBytes(t.Context(), 1); err != nil {
		t.Error(err)
	}
	if err := b.AwaitBytes(ctx, 1<<40); !errors.Is(err, context.Canceled) {
		t.Errorf("AwaitBytes with a context that is over: %v", err)
	}
}

// dial connects as QEMU does.
func dial(t *testing.T, h *lab.Hub, name string) (net.Conn, *lab.Port) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	p, err := h.Listen(name, socket)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn, p
}

func prefixed(f []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(f))), f...)
}

func TestListenSpeaksStream(t *testing.T) {
	h := newHub(t)
	a := h.Port("a")
	conn, p := dial(t, h, "qemu")
	hello := prefixed(frame(everyone, 9, "hello from QEMU"))
	for _, part := range [][]byte{hello[:2], hello[2:10], hello[10:]} {
		if _, err := conn.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	if got := receive(t, a); got != "hello from QEMU" {
		t.Errorf("a received %q", got)
	}
	answer := frame(9, 1, "hello QEMU")
	a.Send(answer)
	got := make([]byte, 4+len(answer))
	if _, err := io.ReadFull(conn, got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(prefixed(answer), got); diff != "" {
		t.Errorf("on the stream (-want +got):\n%s", diff)
	}
	conn.Close()
	if _, err := receiveUntilClosed(t, p); err == nil {
		t.Error("the port outlives its program")
	}
}

func receiveUntilClosed(t *testing.T, p *lab.Port) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	f, err := p.Receive(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	return f, err
}

func TestListenEndsOnNonsense(t *testing.T) {
	h := newHub(t)
	conn, p := dial(t, h, "qemu")
	if _, err := conn.Write([]byte("GET / HTTP/1.0\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := receiveUntilClosed(t, p); err == nil {
		t.Error("the port goes on after a frame of 1.2 gigabytes")
	}
}

// FuzzStream gives the hub whatever a program may send.
func FuzzStream(f *testing.F) {
	f.Add(prefixed(frame(everyone, 1, "good")))
	f.Add(prefixed(frame(1, 1, "to itself")))
	f.Add([]byte{0, 0, 0, 3, 1, 2, 3})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, stream []byte) {
		h := newHub(t)
		conn, p := dial(t, h, "fuzz")
		conn.Write(stream)
		conn.Close()
		if _, err := receiveUntilClosed(t, p); err == nil {
			t.Error("a port received its own frame")
		}
	})
}

func TestCaptureIsReadByTcpdump(t *testing.T) {
	needs.Program(t, "tcpdump")
	h, path := newHubCapture(t)
	a := h.Port("a")
	before := time.Now().Truncate(time.Microsecond)
	a.Send(frame(everyone, 1, "first"))
	a.Send(frame(2, 1, strings.Repeat("x", 1400)))
	if err := h.Flush(); err != nil {
		t.Fatal(err)
	}
	out := run(t, "tcpdump", "-e", "-n", "-tt", "-r", path)
	lines := slices.DeleteFunc(strings.Split(out, "\n"), func(line string) bool { // the banner and dumps
		return !strings.Contains(line, "ethertype")
	})
	if len(lines) != 2 {
		t.Fatalf("tcpdump prints %q, want 2 frames", out)
	}
	if want := "02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff, ethertype Unknown (0x88b5), length 19"; !strings.Contains(lines[0], want) {
		t.Errorf("first line %q does not hold %q", lines[0], want)
	}
	stamp, err := time.ParseDuration(strings.Fields(lines[0])[0] + "s")
	if at := time.Unix(0, int64(stamp)); err != nil || at.Before(before) || at.After(time.Now()) {
		t.Errorf("first line %q: the time is not now (%v)", lines[0], err)
	}
}

func TestClosedHub(t *testing.T) {
	h := newHub(t)
	a := h.Port("a")
	for range 2 {
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
	}
	a.Send(frame(everyone, 1, "nobody hears this"))
	late := h.Port("late")
	late.Close()
	if _, err := receiveUntilClosed(t, late); err == nil {
		t.Error("a port of a closed hub receives")
	}
}
