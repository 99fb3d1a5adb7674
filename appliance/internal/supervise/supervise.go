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

// firstFD is the child's descriptor that it tells its state by; the sockets
// follow.
const firstFD = 3

// State is what a child tells its parent, and the parent the next child.
type State byte

const (
	Starting  State = '0' // not ready yet
	Answering State = '1' // ready, every service answers
	Quiet     State = '2' // ready, DHCP stays quiet beside another server
)

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
	pause, state := firstPause, Starting
	for {
		var err error
		if sockets, err = p.Sockets(sockets); err != nil {
			p.Say("%v", err)
			return 1
		}
		began := time.Now()
		c, err := p.start(sockets, state)
		if err != nil {
			p.Say("start: %v", err)
			return 1
		}
		told := c.await(signals)
		state = c.state(state)
		if told || state == Starting {
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
	cmd    *exec.Cmd
	states *os.File
	ended  chan struct{}
}

func (p Parent) start(sockets []*net.TCPListener, last State) (*child, error) {
	states, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	// What runs now, even if the file of this name has been replaced meanwhile.
	cmd := exec.Command("/proc/self/exe", p.Args...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), marker+"="+string(rune(last)))
	cmd.Stdout, cmd.Stderr = p.Stdout, p.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.ExtraFiles = []*os.File{theirs}
	for _, l := range sockets {
		f, err := l.File()
		if err != nil {
			states.Close()
			return nil, err
		}
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	if err := cmd.Start(); err != nil {
		states.Close()
		return nil, err
	}
	c := &child{cmd, states, make(chan struct{})}
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

// state is the last one that an ended child has told; last when it told none.
func (c *child) state(last State) State {
	defer c.states.Close()
	told, _ := io.ReadAll(c.states) // what was read counts, whatever came after it
	if len(told) > 0 {
		last = State(told[len(told)-1])
	}
	return last
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

// Last is the state that the child before this one has told last; Starting in
// the first child.
func Last() State {
	if s := os.Getenv(marker); s != "" {
		return State(s[0])
	}
	return Starting
}

// Inherited are the sockets that the parent has handed to this child, and what
// tells the parent its state. A child that has told one was ready.
func Inherited(count int) (sockets []*net.TCPListener, tell func(State), err error) {
	pipe := os.NewFile(firstFD, "states")
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
	return sockets, func(s State) {
		_, _ = pipe.Write([]byte{byte(s)}) // a parent that is gone takes this process with it
	}, nil
}
