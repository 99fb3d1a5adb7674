// Package command is the agent's one door to other programs. Everything the
// agent starts (the script's commands, rsync, blkid, grub-install) goes
// through a Runner, so that a failed program always shows its arguments, its
// exit status and its last output, and so that tests can put another face in
// front of the door.
package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Command is one program to run. Its standard input is empty.
type Command struct {
	Argv   []string // program and arguments; the program is looked up in PATH unless it holds a slash
	Shown  string   // how logs and errors name it; "" is Argv joined by blanks
	Env    []string // added to the agent's environment
	Chroot string   // not empty: run inside this directory, where the program's path must be absolute
}

// Shell is text run by /bin/sh, as configuration scripts do.
func Shell(text string) Command {
	return Command{Argv: []string{"/bin/sh", "-c", text}, Shown: text}
}

func (c Command) String() string {
	if c.Shown != "" {
		return c.Shown
	}
	return strings.Join(c.Argv, " ")
}

// Runner runs a command and returns the last 64 KiB of what it wrote to
// standard output and standard error. The error of a program that ran and
// failed is a *Failure.
type Runner func(context.Context, Command) (output []byte, err error)

// KeptOutput is how many bytes of a command's output are returned: its end.
const KeptOutput = 64 << 10

// lingering is how long a command's descendants may keep its output open
// after it ended (a daemon that it started does so for ever).
const lingering = 5 * time.Second

// On returns a Runner for this machine. Each command's output is copied to
// log as it comes; nil is silence.
func On(log io.Writer) Runner {
	if log == nil {
		log = io.Discard
	}
	return func(ctx context.Context, c Command) ([]byte, error) {
		out := &tail{copy: log}
		cmd := exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...)
		cmd.Stdout, cmd.Stderr = out, out
		cmd.Env = append(cmd.Environ(), c.Env...)
		cmd.WaitDelay = lingering
		// A process group of its own: a script that is given up takes its
		// children with it.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Chroot: c.Chroot}
		if c.Chroot != "" {
			cmd.Dir = "/"
		}
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
		err := cmd.Run()
		if errors.Is(err, exec.ErrWaitDelay) {
			err = nil
		}
		output := out.end()
		if err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return output, &Failure{Command: c.String(), Cause: err, Output: output}
		}
		return output, nil
	}
}

// Failure is a program that could not be started or did not end well.
type Failure struct {
	Command string
	Cause   error  // *exec.ExitError when it ran
	Output  []byte // the end of what it wrote
}

// shownLines and shownBytes bound the output that a sentence quotes.
const (
	shownLines = 6
	shownBytes = 600
)

// Error is one line: the command, how it ended, and its last lines of output
// joined by " | ".
func (f *Failure) Error() string {
	s := f.Command + ": " + f.Cause.Error()
	if out := LastLines(f.Output); out != "" {
		s += ": " + out
	}
	return s
}

func (f *Failure) Unwrap() error { return f.Cause }

// ExitCode is the exit status of a program that ran, else -1.
func ExitCode(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return -1
}

// LastLines joins the last lines of a program's output by " | ".
func LastLines(output []byte) string {
	var lines []string
	for line := range bytes.Lines(output) {
		if text := strings.TrimSpace(strings.ToValidUTF8(string(line), "?")); text != "" {
			lines = append(lines, text)
		}
	}
	if len(lines) > shownLines {
		lines = lines[len(lines)-shownLines:]
	}
	s := strings.Join(lines, " | ")
	if len(s) > shownBytes {
		s = "..." + strings.ToValidUTF8(s[len(s)-shownBytes:], "")
	}
	return s
}

// tail copies what is written to it and keeps its end.
type tail struct {
	mu   sync.Mutex
	copy io.Writer
	kept []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	// A full disk below the log must not stop the command.
	_, _ = t.copy.Write(p)
	t.kept = append(t.kept, p...)
	if over := len(t.kept) - KeptOutput; over > KeptOutput {
		t.kept = append([]byte(nil), t.kept[over:]...)
	}
	return len(p), nil
}

// end returns the kept output and finishes a last line in the log.
func (t *tail) end() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.kept); n > 0 && t.kept[n-1] != '\n' {
		_, _ = fmt.Fprintln(t.copy)
	}
	return t.kept[max(0, len(t.kept)-KeptOutput):]
}
