package detect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// mostOutput bounds what is kept of a program's output; the longest known (all
// sensors of a BMC, a disk's SMART pages) are some 30 KiB.
const mostOutput = 1 << 20

// runProgram runs a program of this machine; when ctx ends it is killed with
// its children.
func runProgram(ctx context.Context, argv ...string) (Output, error) {
	out := &clipped{left: mostOutput}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdout = out
	cmd.Env = append(cmd.Environ(), "LC_ALL=C")
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	err := cmd.Run()
	if ctx.Err() != nil {
		return Output{}, fmt.Errorf("%s: %w", strings.Join(argv, " "), context.Cause(ctx))
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.Exited() {
		err = nil
	}
	if err != nil {
		return Output{}, fmt.Errorf("%s: %w", strings.Join(argv, " "), err)
	}
	return Output{Text: strings.ToValidUTF8(out.String(), "?"), Exit: cmd.ProcessState.ExitCode()}, nil
}

// clipped keeps the beginning of what is written to it.
type clipped struct {
	bytes.Buffer
	left int
}

func (c *clipped) Write(p []byte) (int, error) {
	n := min(len(p), c.left)
	c.left -= n
	c.Buffer.Write(p[:n])
	return len(p), nil
}
