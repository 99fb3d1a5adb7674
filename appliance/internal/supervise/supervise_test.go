package supervise_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"edeploy/appliance/internal/supervise"
)

const soon = 2 * time.Minute

// TestMain is the child, too: Run starts the program that runs.
func TestMain(m *testing.M) {
	if supervise.IsChild() {
		os.Exit(child(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// child does what its arguments say: it ends at once with a status, or answers
// connections until one says "die".
func child(args []string) int {
	if args[0] == "end" {
		status, _ := strconv.Atoi(args[1])
		return status
	}
	sockets, tell, err := supervise.Inherited(1)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 90
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() {
		<-stop
		status, _ := strconv.Atoi(args[1])
		os.Exit(status)
	}()
	tell(supervise.Answering)
	tell(supervise.Quiet)
	for {
		conn, err := sockets[0].Accept()
		if err != nil {
			return 91
		}
		fmt.Fprintf(conn, "%c %d\n", supervise.Last(), os.Getpid())
		if word, _ := bufio.NewReader(conn).ReadString('\n'); word == "die\n" {
			return 7
		}
		conn.Close()
	}
}

// parent runs children that do as args say, on one socket.
func parent(t *testing.T, args ...string) (p supervise.Parent, socket *net.TCPListener, said func() string) {
	t.Helper()
	socket, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	var mu sync.Mutex
	var words strings.Builder
	return supervise.Parent{Args: args, Stdout: t.Output(), Stderr: t.Output(),
			Sockets: func(last []*net.TCPListener) ([]*net.TCPListener, error) { return []*net.TCPListener{socket}, nil },
			Say: func(format string, args ...any) {
				mu.Lock()
				defer mu.Unlock()
				fmt.Fprintf(&words, format+"\n", args...)
			}}, socket, func() string {
			mu.Lock()
			defer mu.Unlock()
			return words.String()
		}
}

// ask connects and answers what the child says of itself; then it says a word.
func ask(t *testing.T, socket *net.TCPListener, word string) (last string, pid int) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", socket.Addr().String(), soon)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(soon)); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		t.Fatalf("nobody answers: %v", err)
	}
	if _, err := fmt.Sscanf(line, "%s %d", &last, &pid); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(conn, word+"\n") // the child may be gone
	return last, pid
}

// TestEndsEarly: a child that was never ready is not started again, and its
// status is that of the process, but never success.
func TestEndsEarly(t *testing.T) {
	for ends, want := range map[string]int{"0": 1, "3": 3} {
		p, _, said := parent(t, "end", ends)
		if status := p.Run(); status != want {
			t.Errorf("a child that ends with %s: status %d, want %d", ends, status, want)
		}
		if strings.Contains(said(), "started again") {
			t.Errorf("it was started again: %s", said())
		}
	}
}

// TestStartedAgain: a child that was ready and ends is followed by another one
// with the same sockets. Who connects between the two is answered, and the new
// one knows the last state of the old one. Told to end, the parent tells the
// child and ends as it does.
func TestStartedAgain(t *testing.T) {
	for _, ends := range []int{0, 5} {
		p, socket, said := parent(t, "answer", strconv.Itoa(ends))
		status := make(chan int, 1)
		go func() { status <- p.Run() }()
		first, before := ask(t, socket, "die")
		if first != string(rune(supervise.Starting)) {
			t.Errorf("the first child hears of state %s", first)
		}
		for range 2 {
			last, pid := ask(t, socket, "die")
			if last != string(rune(supervise.Quiet)) || pid == before {
				t.Errorf("the next child, %d after %d, hears of state %s, want the last one told", pid, before, last)
			}
			before = pid
		}
		ask(t, socket, "stay")
		if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil { // Run has it caught
			t.Fatal(err)
		}
		select {
		case got := <-status:
			if got != ends {
				t.Errorf("status %d, want the child's, %d", got, ends)
			}
		case <-time.After(soon):
			t.Fatal("it does not end")
		}
		if n := strings.Count(said(), "exit status 7"); n != 3 {
			t.Errorf("%d of 3 ends are told:\n%s", n, said())
		}
	}
}

// TestNoSockets: without its sockets nothing is started, and the reason is said.
func TestNoSockets(t *testing.T) {
	p, _, said := parent(t, "answer", "0")
	p.Sockets = func([]*net.TCPListener) ([]*net.TCPListener, error) { return nil, errors.New("port 80 is taken") }
	if status := p.Run(); status != 1 || !strings.Contains(said(), "port 80 is taken") {
		t.Errorf("status %d, said %q", status, said())
	}
}
