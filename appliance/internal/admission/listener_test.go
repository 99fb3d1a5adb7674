package admission_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"edeploy/appliance/internal/admission"
)

func listen(t *testing.T, total, perPeer int) *admission.Listener {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &admission.Listener{TCPListener: l.(*net.TCPListener), Name: "test", Total: total, PerPeer: perPeer,
		Refusal: "no more\n", Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
}

// dial connects from an address of the loopback network, each of which is a
// peer of its own.
func dial(t *testing.T, l net.Listener, from string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 5 * time.Second}
	c, err := d.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(5 * time.Second))
	return c
}

func accept(t *testing.T, l net.Listener) <-chan net.Conn {
	accepted := make(chan net.Conn, 100)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- c
		}
	}()
	return accepted
}

func next(t *testing.T, accepted <-chan net.Conn) net.Conn {
	t.Helper()
	select {
	case c := <-accepted:
		return c
	case <-time.After(5 * time.Second):
		t.Fatal("no connection was accepted")
		return nil
	}
}

func TestShareOfAPeer(t *testing.T) {
	l := listen(t, 8, 2)
	accepted := accept(t, l)
	dial(t, l, "127.0.0.2")
	dial(t, l, "127.0.0.2")
	first, _ := next(t, accepted), next(t, accepted)
	said, err := io.ReadAll(dial(t, l, "127.0.0.2"))
	if string(said) != "no more\n" || err != nil {
		t.Errorf("the third connection of a peer reads %q, %v", said, err)
	}
	dial(t, l, "127.0.0.3")
	next(t, accepted)
	first.Close()
	first.Close() // gives its place back once
	dial(t, l, "127.0.0.2")
	next(t, accepted)
	if said, _ := io.ReadAll(dial(t, l, "127.0.0.2")); string(said) != "no more\n" {
		t.Errorf("a connection that was closed twice gave two places back: %q", said)
	}
}

func TestTotalWaits(t *testing.T) {
	l := listen(t, 2, 2)
	accepted := accept(t, l)
	dial(t, l, "127.0.0.2")
	dial(t, l, "127.0.0.3")
	first, _ := next(t, accepted), next(t, accepted)
	late := dial(t, l, "127.0.0.4") // the kernel has it
	fmt.Fprint(late, "hello")
	select {
	case <-accepted:
		t.Fatal("accepted more than the total")
	case <-time.After(100 * time.Millisecond):
	}
	first.Close()
	c := next(t, accepted)
	words := make([]byte, 5)
	if _, err := io.ReadFull(c, words); string(words) != "hello" || err != nil {
		t.Errorf("what waited says %q, %v", words, err)
	}
	second := dial(t, l, "127.0.0.5") // waits
	defer second.Close()
	l.Close()
	for range accepted { // ends
	}
}

// outOfFiles makes the test binary the process that has no descriptors left.
const outOfFiles = "ADMISSION_TEST_OUT_OF_FILES"

func TestOutOfDescriptors(t *testing.T) {
	if os.Getenv(outOfFiles) != "" {
		withoutDescriptors(t)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestOutOfDescriptors$", "-test.v")
	cmd.Env = append(os.Environ(), outOfFiles+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if n := strings.Count(string(out), "accept waits"); n != 1 {
		t.Errorf("the error was said %d times, want once:\n%s", n, out)
	}
	if !strings.Contains(string(out), "accepted again") {
		t.Errorf("the end of the trouble was not said:\n%s", out)
	}
}

// withoutDescriptors accepts when no descriptor is left, and some later.
func withoutDescriptors(t *testing.T) {
	l := listen(t, 100, 100)
	c := dial(t, l, "127.0.0.2")
	limit := syscall.Rlimit{Cur: 64, Max: 64}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	var files []*os.File
	for {
		f, err := os.Open(os.DevNull)
		if err != nil {
			break
		}
		files = append(files, f)
	}
	accepted := accept(t, l)
	select {
	case _, open := <-accepted:
		t.Fatalf("a connection without a descriptor, or the end: %v", open)
	case <-time.After(300 * time.Millisecond):
	}
	for _, f := range files {
		f.Close()
	}
	fmt.Fprint(next(t, accepted), "hello")
	words := make([]byte, 5)
	if _, err := io.ReadFull(c, words); string(words) != "hello" || err != nil {
		t.Errorf("the client reads %q, %v", words, err)
	}
}
