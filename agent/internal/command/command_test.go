package command_test

import (
	"bytes"
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"edeploy/agent/internal/command"
)

func TestFailureShowsCommandStatusAndOutput(t *testing.T) {
	tests := []struct {
		name string
		cmd  command.Command
		want string
		code int
	}{
		{"exit status", command.Shell("echo one; echo two >&2; exit 3"), "echo one; echo two >&2; exit 3: exit status 3: one | two", 3},
		{"no output", command.Command{Argv: []string{"/bin/false"}}, "/bin/false: exit status 1", 1},
		{"signal", command.Shell("kill -9 $$"), "kill -9 $$: signal: killed", -1},
		{"only the end", command.Shell("seq 1 9; false"), "seq 1 9; false: exit status 1: 4 | 5 | 6 | 7 | 8 | 9", 1},
		{"reads nothing", command.Shell("read x"), "read x: exit status 1", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := command.On(nil)(t.Context(), tt.cmd)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got error %v, want %q", err, tt.want)
			}
			if got := command.ExitCode(err); got != tt.code {
				t.Errorf("exit code %d, want %d", got, tt.code)
			}
		})
	}
}

func TestMissingProgram(t *testing.T) {
	_, err := command.On(nil)(t.Context(), command.Command{Argv: []string{"no-such-program", "-x"}})
	if err == nil || !strings.HasPrefix(err.Error(), "no-such-program -x: ") || !strings.Contains(err.Error(), exec.ErrNotFound.Error()) {
		t.Errorf("got %v", err)
	}
}

func TestOutputIsCopiedAndBounded(t *testing.T) {
	var log bytes.Buffer
	out, err := command.On(&log)(t.Context(), command.Shell("yes 0123456789 | head -c 1000000"))
	if err != nil {
		t.Fatal(err)
	}
	if log.Len() < 1000000 {
		t.Errorf("the log has %d bytes, want all 1000000", log.Len())
	}
	if len(out) != 64<<10 {
		t.Errorf("kept %d bytes, want %d", len(out), 64<<10)
	}
}

func TestCancelKillsChildrenToo(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := command.On(nil)(ctx, command.Shell("sleep 60 | sleep 60"))
	if err == nil || !strings.Contains(err.Error(), context.DeadlineExceeded.Error()) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("took %v: the children were left alone", took)
	}
}
