// Package supervise runs a program as the child of a small parent that keeps
// its listening sockets open. When the child ends, for whatever reason, it is
// started again with the same sockets: connections that come meanwhile wait in
// the kernel's queue and are answered.
//
// The parent does nothing with what comes from the network. The child dies with
// it.
package supervise

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

// marker is set in the child's environment.
const marker = "EDEPLOYD_CHILD"

// firstFD is the child's descriptor that says that it is ready; the sockets
// follow.
const firstFD = 3

// IsChild says whether this process was started by Run.
func IsChild() bool { return os.Getenv(marker) != "" }

// Parent says how to run the child.
type Parent struct {
	Args []string // of the child: those of this process
	// Sockets answers the listeners that the child gets. It is asked before every
	// start, with those of the last time (nil at the first), which it may keep.
	Sockets func(last []*net.TCPListener) ([]*net.TCPListener, error)
	// Say gets a sentence for each end of the child.
	Say            func(format string, args ...any)
	Stdout, Stderr io.Writer
}

const (
	firstPause = 100 * time.Millisecond // before the child is started again
	lastPause  = 30 * time.Second       // it doubles up to this
	steady     = time.Minute            // a child that lived longer starts with the first pause
	patience   = 20 * time.Second       // for a child that was told to end
)

// Run starts the child and starts it again whenever it ends, until this process
// is told to end (SIGTERM, SIGINT); the child is told, too. A child that ends
// before it was ready for the first time is not started again: something is
// wrong that an operator must know of. Run answers the exit status of the
// process.
func (p Parent) Run() int {
	// The child gets a signal when the thread that started it ends
	// (PR_SET_PDEATHSIG in prctl(2)): all starts happen on this one, which lives
	// as long as Run.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT)
	defer signal.Stop(signals)

	var sockets []*net.TCPListener
	pause, wasReady := firstPause, false
	for {
		var err error
		if sockets, err = p.Sockets(sockets); err != nil {
			p.Say("%v", err)
			return 1
		}
		began := time.Now()
		c, err := p.start(sockets)
		if err != nil {
			p.Say("start: %v", err)
			return 1
		}
		told := c.await(signals)
		wasReady = wasReady || c.wasReady()
		if told || !wasReady {
			return c.status(told)
		}
		if time.Since(began) > steady {
			pause = firstPause
		}
		p.Say("the daemon ended (%v) and is started again in %v; connections wait", c.cmd.ProcessState, pause)
		select {
		case <-time.After(pause):
		case <-signals:
			return 0
		}
		pause = min(2*pause, lastPause)
	}
}

// child is a running child.
type child struct {
	cmd   *exec.Cmd
	ready *os.File
	ended chan struct{}
}

func (p Parent) start(sockets []*net.TCPListener) (*child, error) {
	ready, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	// What runs now, even if the file of this name has been replaced meanwhile.
	cmd := exec.Command("/proc/self/exe", p.Args...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), marker+"=1")
	cmd.Stdout, cmd.Stderr = p.Stdout, p.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.ExtraFiles = []*os.File{theirs}
	for _, l := range sockets {
		f, err := l.File()
		if err != nil {
			ready.Close()
			return nil, err
		}
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	if err := cmd.Start(); err != nil {
		ready.Close()
		return nil, err
	}
	c := &child{cmd, ready, make(chan struct{})}
	go func() {
		_ = cmd.Wait() // what it says is in ProcessState
		close(c.ended)
	}()
	return c, nil
}

// await waits for the end of the child and passes signals on. It answers
// whether the child was told to end.
func (c *child) await(signals <-chan os.Signal) (told bool) {
	var kill <-chan time.Time
	for {
		select {
		case <-c.ended:
			return told
		case s := <-signals:
			// A child that has just ended needs no signal.
			_ = c.cmd.Process.Signal(s)
			if s != syscall.SIGQUIT && !told { // that one asks for the stacks of a child that hangs
				told, kill = true, time.After(patience)
			}
		case <-kill:
			_ = c.cmd.Process.Kill()
		}
	}
}

// wasReady says whether an ended child has said that it was ready.
func (c *child) wasReady() bool {
	defer c.ready.Close()
	n, _ := c.ready.Read(make([]byte, 1))
	return n == 1
}

// status is the exit status for the end of the child.
func (c *child) status(told bool) int {
	code := c.cmd.ProcessState.ExitCode()
	switch {
	case code < 0 && told:
		return 0 // it was killed as it should end
	case code <= 0 && !told:
		return 1
	}
	return code
}

// Inherited are the sockets that the parent has handed to this child, and what
// tells the parent that the child is ready.
func Inherited(count int) (sockets []*net.TCPListener, ready func(), err error) {
	pipe := os.NewFile(firstFD, "ready")
	syscall.CloseOnExec(firstFD)
	defer func() {
		if err != nil {
			err = fmt.Errorf("sockets of the parent process: %w", err)
		}
	}()
	for fd := firstFD + 1; fd <= firstFD+count; fd++ {
		f := os.NewFile(uintptr(fd), "socket")
		l, err := net.FileListener(f)
		f.Close()
		if err != nil {
			return nil, nil, err
		}
		tcp, ok := l.(*net.TCPListener)
		if !ok {
			return nil, nil, errors.New("not a TCP socket")
		}
		sockets = append(sockets, tcp)
	}
	return sockets, func() {
		_, _ = pipe.Write([]byte{1}) // a parent that is gone takes this process with it
		pipe.Close()
	}, nil
}
