package lab_test

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"edeploy/integration/lab"
)

func newLaptop(t testing.TB, h *lab.Hub, prefix string) *lab.Laptop {
	t.Helper()
	l, err := h.Laptop(netip.MustParsePrefix(prefix))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// serveBytes answers every connection with the content, then ends it.
func serveBytes(t testing.TB, l *lab.Laptop, port uint16, content []byte) {
	t.Helper()
	listener, err := l.Listen(port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				conn.Write(content)
			}()
		}
	}()
}

func TestLaptopTransfer(t *testing.T) {
	h := newHub(t)
	near, far := newLaptop(t, h, "10.0.3.200/24"), newLaptop(t, h, "10.0.3.1/24")
	content := make([]byte, 8<<20)
	rand.Read(content)
	serveBytes(t, far, 873, content)
	start := time.Now()
	conn, err := near.DialContext(t.Context(), "tcp", "10.0.3.1:873")
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, content) {
		t.Fatalf("read %d bytes of %d, or others: %v", len(got), len(content), err)
	}
	t.Logf("%.0f MB/s; %v", float64(len(got))/1e6/time.Since(start).Seconds(), near.Port())
}

// BenchmarkLaptop is the speed of one TCP connection between two laptops.
func BenchmarkLaptop(b *testing.B) {
	h := newHub(b)
	near, far := newLaptop(b, h, "10.0.3.200/24"), newLaptop(b, h, "10.0.3.1/24")
	content := make([]byte, 64<<20)
	serveBytes(b, far, 873, content)
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		conn, err := near.DialContext(b.Context(), "tcp", "10.0.3.1:873")
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, conn); n != int64(len(content)) {
			b.Fatalf("read %d bytes: %v", n, err)
		}
	}
}

func TestLaptopSurvivesCut(t *testing.T) {
	h := newHub(t)
	near, far := newLaptop(t, h, "10.0.3.200/24"), newLaptop(t, h, "10.0.3.1/24")
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<17)
	serveBytes(t, far, 80, content)
	conn, err := near.DialContext(t.Context(), "tcp", "10.0.3.1:80")
	if err != nil {
		t.Fatal(err)
	}
	half := make([]byte, len(content)/2)
	if _, err := io.ReadFull(conn, half); err != nil {
		t.Fatal(err)
	}
	near.Port().Cut()
	time.AfterFunc(300*time.Millisecond, near.Port().Restore)
	rest, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(append(half, rest...), content) {
		t.Errorf("read %d bytes of %d: %v", len(half)+len(rest), len(content), err)
	}
}

func TestLaptopHTTPAndForward(t *testing.T) {
	h := newHub(t)
	near, far := newLaptop(t, h, "10.0.3.200/24"), newLaptop(t, h, "10.0.3.1/24")
	listener, err := far.Listen(80)
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s", r.RemoteAddr[:len("10.0.3.200")], r.Host, body)
	})}
	go web.Serve(listener)
	t.Cleanup(func() { web.Close() })
	forwarded, err := near.Forward("127.0.0.1:0", "10.0.3.1:80")
	if err != nil {
		t.Fatal(err)
	}

	tests := []struct {
		name   string
		client *http.Client
		host   string
	}{
		{"on the wire", near.HTTPClient(), "10.0.3.1"},
		{"from the host", http.DefaultClient, forwarded.String()},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			resp, err := test.client.Post("http://"+test.host+"/x", "text/plain", bytes.NewReader([]byte("hello")))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			if want := "10.0.3.200 " + test.host + " hello"; err != nil || string(got) != want {
				t.Errorf("got %q %v, want %q", got, err, want)
			}
		})
	}
	near.Close()
	if _, err := net.Dial("tcp", forwarded.String()); err == nil {
		t.Error("the forwarded port outlives the laptop")
	}
}

func TestForwardToNobody(t *testing.T) {
	h := newHub(t)
	near, _ := newLaptop(t, h, "10.0.3.200/24"), newLaptop(t, h, "10.0.3.1/24")
	forwarded, err := near.Forward("127.0.0.1:0", "10.0.3.1:22")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", forwarded.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil || isTimeout(err) {
		t.Errorf("read %d bytes, %v: want the end of the connection", n, err)
	}
	if _, err := near.Forward("127.0.0.1:0", "appliance:80"); err == nil {
		t.Error("a host name is accepted: the wire has no name server")
	}
}

func isTimeout(err error) bool {
	timeout, ok := err.(net.Error)
	return ok && timeout.Timeout()
}

func TestLaptopRefusesToDial(t *testing.T) {
	near := newLaptop(t, newHub(t), "10.0.3.200/24")
	for _, to := range [][2]string{{"tcp", "appliance:80"}, {"tcp", "[2001:db8::1]:80"}, {"udp", "10.0.3.1:69"}} {
		if _, err := near.DialContext(t.Context(), to[0], to[1]); err == nil {
			t.Errorf("%s %s is dialled", to[0], to[1])
		}
	}
}

// arp is an ARP message (RFC 826) from 10.0.3.9: 1 asks, 2 answers.
func arp(operation byte, mac, ip []byte) []byte {
	f := frame(everyone, 9, "\x00\x01\x08\x00\x06\x04\x00")
	f[12], f[13] = 0x08, 0x06
	f = append(f, operation, 2, 0, 0, 0, 0, 9, 10, 0, 3, 9)
	return append(append(f, mac...), ip...)
}

func TestLaptopAnswersARPAndPing(t *testing.T) {
	h := newHub(t)
	newLaptop(t, h, "10.0.3.200/24")
	probe := h.Port("probe")
	probe.Send(arp(1, make([]byte, 6), []byte{10, 0, 3, 200}))
	answer := []byte(receive(t, probe))
	if answer[7] != 2 || !bytes.Equal(answer[14:18], []byte{10, 0, 3, 200}) {
		t.Fatalf("got %x, want the ARP answer of 10.0.3.200", answer)
	}
	probe.Send(ping(answer[8:14]))
	echo := []byte(receive(t, probe))
	if len(echo) < 24 || echo[9] != 1 || echo[20] != 0 || !bytes.HasSuffix(echo, []byte("ping!")) {
		t.Errorf("got %x, want an echo reply", echo)
	}
}

// ping is an echo request (RFC 792) from 10.0.3.9 to 10.0.3.200.
func ping(mac []byte) []byte {
	f := append(bytes.Clone(mac), 2, 0, 0, 0, 0, 9, 0x08, 0x00)
	ip := []byte{0x45, 0, 0, 33, 0, 1, 0, 0, 64, 1, 0, 0, 10, 0, 3, 9, 10, 0, 3, 200}
	binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	icmp := append([]byte{8, 0, 0, 0, 0, 7, 0, 1}, "ping!"...)
	binary.BigEndian.PutUint16(icmp[2:], checksum(icmp))
	return append(append(f, ip...), icmp...)
}

// checksum is the Internet checksum (RFC 1071).
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(b[i]) << 8
		if i+1 < len(b) {
			sum += uint32(b[i+1])
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func TestLaptopPrefix(t *testing.T) {
	h := newHub(t)
	for _, p := range []netip.Prefix{{}, netip.MustParsePrefix("fd00::1/64")} {
		if _, err := h.Laptop(p); err == nil {
			t.Errorf("a laptop with the address %v is plugged in", p)
		}
	}
}
