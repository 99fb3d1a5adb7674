package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

var shells = []string{"/bin/bash", "/bin/sh", "/bbin/gosh"}

// Console runs an interactive shell on every console of the kernel, so that
// whoever looks at the screen or at the serial line can type. It returns when
// the first of them exits or ctx ends, and stops the others. Only a console
// that cannot be used at all is an error; what the shell exited with is not.
func Console(ctx context.Context) error {
	active, err := os.ReadFile("/sys/class/tty/console/active")
	if err != nil {
		return fmt.Errorf("find the kernel's console: %w", err)
	}
	shell, env, err := Shell()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	terminals := terminals(string(active), activeVT())
	ended := make(chan error, len(terminals))
	for _, tty := range terminals {
		go func() { ended <- runShell(ctx, shell, env, tty) }()
	}
	return firstGood(ended, len(terminals))
}

// firstGood waits for the first shell that ran; the errors count only when
// there was none.
func firstGood(ended <-chan error, running int) error {
	errs := errors.New("no console of the kernel can be used")
	for range running {
		err := <-ended
		if err == nil {
			return nil
		}
		errs = errors.Join(errs, err)
	}
	return errs
}

// Shell finds the shell for operators, and what it gets besides the environment
// of this process.
func Shell() (program string, env []string, err error) {
	for _, shell := range shells {
		if _, err := os.Stat(shell); err == nil {
			return shell, []string{"HOME=/root", `PS1=edeploy:\w# `}, nil
		}
	}
	return "", nil, fmt.Errorf("no shell: none of %s is here", strings.Join(shells, ", "))
}

// terminals are the device names of the active consoles, the preferred one
// (which the kernel lists last) first. tty0 stands for the virtual terminal
// that is shown; it cannot control a shell itself.
func terminals(active, shownVT string) []string {
	var names []string
	for _, name := range strings.Fields(active) {
		if name == "tty0" {
			name = shownVT
		}
		names = append([]string{filepath.Join("/dev", name)}, names...)
	}
	return names
}

func activeVT() string {
	name, err := os.ReadFile("/sys/class/tty/tty0/active")
	if err != nil {
		return "tty1"
	}
	return strings.TrimSpace(string(name))
}

// runShell gives the shell a session of its own with the terminal in control:
// ^C and job control need that.
func runShell(ctx context.Context, shell string, env []string, tty string) error {
	// O_NOCTTY: the terminal must become the shell's, not ours.
	terminal, err := os.OpenFile(tty, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return fmt.Errorf("open console: %w", err)
	}
	defer terminal.Close()
	cmd := exec.CommandContext(ctx, shell, "-i")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	cmd.Env = append(append(os.Environ(), "TERM="+terminalType(tty)), env...)
	cmd.Dir = "/"
	// A signal that we were started to ignore would stay ignored in the shell
	// and all it runs; one that we handle is the default again after exec(2).
	handled := make(chan os.Signal, 1)
	signal.Notify(handled, syscall.SIGINT, syscall.SIGQUIT)
	err = cmd.Start()
	signal.Stop(handled)
	if err != nil {
		return fmt.Errorf("start %s on %s: %w", shell, tty, err)
	}
	err = cmd.Wait()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return nil
	}
	return err
}

func terminalType(tty string) string {
	if strings.HasPrefix(tty, "/dev/ttyS") || strings.HasPrefix(tty, "/dev/hvc") {
		return "vt102"
	}
	return "linux"
}
