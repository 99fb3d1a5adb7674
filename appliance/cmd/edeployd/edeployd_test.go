package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asProgram makes the test binary the program itself.
const asProgram = "EDEPLOYD_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// program is edeployd with arguments.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	return cmd
}

// daemon is a running edeployd.
type daemon struct {
	cmd         *exec.Cmd
	http, rsync string
	conf        string
	log         *os.File
	ended       chan error
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func configuration(t *testing.T, http, rsync int) (conf string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "config"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"config/state": "[]\n",
		"edeploy.conf": fmt.Sprintf("[SERVER]\nCONFIGDIR=config\n[NETWORK]\nADDRESS=127.0.0.1/8\n[DHCP]\nENABLED=no\n"+
			"[HTTP]\nPORT=%d\n[RSYNC]\nPORT=%d\n[IMAGES]\nTOP=images\n[STATE]\nDIR=server\n", http, rsync),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "edeploy.conf")
}

func start(t *testing.T) *daemon {
	t.Helper()
	http, rsync := freePort(t), freePort(t)
	d := &daemon{http: fmt.Sprintf("127.0.0.1:%d", http), rsync: fmt.Sprintf("127.0.0.1:%d", rsync),
		conf: configuration(t, http, rsync), ended: make(chan error, 1)}
	d.cmd = program(t, "-config", d.conf)
	var err error
	if d.log, err = os.Create(filepath.Join(t.TempDir(), "log")); err != nil {
		t.Fatal(err)
	}
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() { d.ended <- d.cmd.Wait(); close(gone) }()
	t.Cleanup(func() {
		child := d.child()
		d.cmd.Process.Kill()
		<-gone
		if child != 0 { // it writes into directories that are about to be removed
			d.await(t, "the child is gone", func() bool { return !running(child) })
		}
		if t.Failed() {
			text, _ := os.ReadFile(d.log.Name())
			t.Logf("edeployd said:\n%s", text)
		}
	})
	d.await(t, "the daemon answers", func() bool { return d.get() == nil })
	return d
}

// await waits for something that happens soon.
func (d *daemon) await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func (d *daemon) get() error {
	client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get("http://" + d.http + "/api/v1/version")
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return errors.New(res.Status)
	}
	return nil
}

// greet reads the rsync daemon's first words.
func (d *daemon) greet() error {
	c, err := net.Dial("tcp", d.rsync)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	line, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && !strings.HasPrefix(line, "@RSYNCD:") {
		err = fmt.Errorf("the rsync daemon says %q", line)
	}
	return err
}

// running says whether a process still does something.
func running(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(text), ") ")
	return !strings.HasPrefix(state, "Z") && !strings.HasPrefix(state, "X")
}

// child is the process that serves; 0 when there is none.
func (d *daemon) child() int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, stat := range stats {
		text, _ := os.ReadFile(stat)
		pid, rest, _ := strings.Cut(string(text), " (")
		fields := strings.Fields(rest[strings.LastIndex(rest, ")")+1:])
		if len(fields) > 1 && fields[0] != "Z" && fields[1] == strconv.Itoa(d.cmd.Process.Pid) {
			n, _ := strconv.Atoi(pid)
			return n
		}
	}
	return 0
}

// A daemon that is killed is not missed: who connects meanwhile is answered.
func TestKilledChild(t *testing.T) {
	d := start(t)
	for range 3 {
		d.await(t, "a child", func() bool { return d.child() != 0 })
		before := d.child()
		if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		d.await(t, "its end", func() bool { return d.child() != before })
		// There is no child now, or one that does not accept yet.
		if err := d.get(); err != nil {
			t.Errorf("HTTP while the daemon restarts: %v", err)
		}
		if err := d.greet(); err != nil {
			t.Errorf("rsync while the daemon restarts: %v", err)
		}
		if after := d.child(); after == 0 || after == before {
			t.Errorf("child %d after child %d", after, before)
		}
	}
	text, err := os.ReadFile(d.log.Name())
	if !bytes.Contains(text, []byte("the daemon ended (signal: killed) and is started again in 100ms")) {
		t.Errorf("the log does not say so: %v\n%s", err, text)
	}
}

// Requests that come one after the other all the time, while the daemon is
// killed again and again: none is refused a connection.
func TestNoConnectionIsRefused(t *testing.T) {
	d := start(t)
	stop := make(chan struct{})
	refused := make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				refused <- n
				return
			default:
			}
			if err := d.get(); errors.Is(err, syscall.ECONNREFUSED) {
				n++
			}
		}
	}()
	for range 3 {
		killed := d.child()
		syscall.Kill(killed, syscall.SIGKILL)
		d.await(t, "another child", func() bool { now := d.child(); return now != 0 && now != killed })
	}
	close(stop)
	if n := <-refused; n > 0 {
		t.Errorf("%d connections were refused", n)
	}
}

func TestEnds(t *testing.T) {
	t.Run("told", func(t *testing.T) {
		d := start(t)
		child := d.child()
		d.cmd.Process.Signal(syscall.SIGTERM)
		if err := <-d.ended; err != nil {
			t.Errorf("after SIGTERM: %v", err)
		}
		if err := syscall.Kill(child, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("the child lives on: %v", err)
		}
	})
	t.Run("all told at once", func(t *testing.T) { // as systemd and terminals do
		d := start(t)
		syscall.Kill(d.child(), syscall.SIGTERM)
		d.cmd.Process.Signal(syscall.SIGTERM)
		if err := <-d.ended; err != nil {
			t.Errorf("after SIGTERM: %v", err)
		}
	})
	t.Run("the parent is killed", func(t *testing.T) {
		d := start(t)
		d.cmd.Process.Kill()
		<-d.ended
		d.await(t, "the port is free", func() bool {
			c, err := net.Dial("tcp", d.http)
			if err == nil {
				c.Close()
			}
			return errors.Is(err, syscall.ECONNREFUSED)
		})
	})
	t.Run("stacks", func(t *testing.T) { // of a daemon that hangs; it goes on after it
		d := start(t)
		child := d.child()
		d.cmd.Process.Signal(syscall.SIGQUIT)
		d.await(t, "another child", func() bool { pid := d.child(); return pid != 0 && pid != child })
		text, _ := os.ReadFile(d.log.Name())
		if !bytes.Contains(text, []byte("goroutine ")) {
			t.Errorf("no stacks in the log:\n%s", text)
		}
	})
}

// What an operator must mend ends the program at its start, with a sentence;
// once it has served it stays, whatever is done to the file.
func TestMistakes(t *testing.T) {
	used, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer used.Close()
	broken := configuration(t, freePort(t), freePort(t))
	if err := os.WriteFile(broken, []byte("[HTTP]\nPROT=80\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	noState := configuration(t, freePort(t), freePort(t))
	if err := os.WriteFile(filepath.Join(filepath.Dir(noState), "server"), nil, 0o644); err != nil { // no directory
		t.Fatal(err)
	}
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"-config", broken}, 1, "[HTTP] has an unknown key PROT"},
		{[]string{"-config", "no/such/file"}, 1, "no/such/file"},
		{[]string{"-config", configuration(t, used.Addr().(*net.TCPAddr).Port, freePort(t))}, 1, "address already in use"},
		{[]string{"-config", noState}, 1, "make directory"},
		{[]string{"start"}, 2, `edeployd: "start": edeployd takes flags only; edeployd -help lists the flags`},
		{[]string{"-nosuch"}, 2, "edeployd: flag provided but not defined: -nosuch; edeployd -help lists the flags"},
		{[]string{"--version"}, 0, "edeployd "},
		{[]string{"--help"}, 0, "configuration file"},
	} {
		out, err := program(t, test.args...).CombinedOutput()
		code := 0
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			code = exit.ExitCode()
		}
		if code != test.code || !strings.Contains(string(out), test.want) {
			t.Errorf("%v: exit status %d, want %d; output without %q:\n%s", test.args, code, test.code, test.want, out)
		}
		if test.code == 2 && strings.Count(string(out), "\n") != 1 {
			t.Errorf("%v: more than a line:\n%s", test.args, out)
		}
	}

	d := start(t)
	if err := os.WriteFile(d.conf, []byte("[HTTP]\nPROT=80\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(configuration(t, port(d.http), port(d.rsync)))
	if err != nil {
		t.Fatal(err)
	}
	syscall.Kill(d.child(), syscall.SIGKILL)
	d.await(t, "the mistake is told", func() bool {
		log, _ := os.ReadFile(d.log.Name())
		return bytes.Contains(log, []byte("unknown key PROT"))
	})
	answer := make(chan error, 1)
	go func() { answer <- d.get() }()
	if err := os.WriteFile(d.conf, text, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := <-answer; err != nil {
		t.Errorf("after the file was mended: %v", err)
	}
}

func port(addr string) int {
	_, text, _ := net.SplitHostPort(addr)
	n, _ := strconv.Atoi(text)
	return n
}
