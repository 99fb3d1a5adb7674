package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync/atomic"
	"time"
)

// VM is a running machine, or one that has stopped.
type VM struct {
	machine   Machine
	lab       *Lab
	console   *console
	serial    net.Conn
	monitor   *monitor
	ports     []*Port        // by card; nil for the user-mode network
	forwarded map[int]string // host address by guest port

	consolePath, qemuPath string

	cmd     *exec.Cmd
	killed  atomic.Bool
	exited  chan struct{}
	exitErr error // set before exited closes
	started time.Time
	stopped time.Time
}

// complaints are QEMU's messages, without the command line.
func (vm *VM) complaints() string {
	log, err := os.ReadFile(vm.qemuPath)
	if err != nil {
		return ""
	}
	_, text, _ := strings.Cut(string(log), "\n")
	const most = 1000
	return strings.TrimSpace(text[max(0, len(text)-most):])
}

// Name is the machine's name.
func (vm *VM) Name() string { return vm.machine.Name }

// MAC is the address of a card.
func (vm *VM) MAC(card int) string { return vm.machine.NICs[card].MAC }

// Port is the card's socket on its hub, where its wire can be cut; nil for a
// card on the user-mode network.
func (vm *VM) Port(card int) *Port { return vm.ports[card] }

// Forwarded is where a forwarded TCP port of the guest is found on the host,
// "127.0.0.1:PORT", or "" if no card forwards it.
func (vm *VM) Forwarded(guestPort int) string { return vm.forwarded[guestPort] }

// ConsolePath is the file that holds all the console said, as it came.
func (vm *VM) ConsolePath() string { return vm.consolePath }

// LastLines are the last lines of the console, without terminal sequences.
func (vm *VM) LastLines(n int) []string { return vm.console.lastLines(n) }

// Expect waits until the console says something that matches the regular
// expression, after what the last Expect matched, and returns the match and
// its groups. Terminal sequences and carriage returns are gone from the text. A
// match over several lines is sure to be found up to 8 KiB. The error carries
// the last lines of the console.
func (vm *VM) Expect(ctx context.Context, pattern string) ([]string, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("expect on the console of %s: %w", vm.Name(), err)
	}
	match, err := vm.console.expect(ctx, re)
	if err != nil {
		return nil, vm.console.explain(vm.Name(), re, err)
	}
	return match, nil
}

// sendTimeout bounds Send on a guest that does not read its serial port.
const sendTimeout = 10 * time.Second

// Send types text on the console, all at once; see Type.
func (vm *VM) Send(text string) error {
	vm.serial.SetWriteDeadline(time.Now().Add(Patience(sendTimeout)))
	if _, err := io.WriteString(vm.serial, text); err != nil {
		return fmt.Errorf("type on the console of %s: %w", vm.Name(), err)
	}
	return nil
}

// echoTimeout is how long Type waits for the echo of one character: a prompt
// that does not echo, as for a password, is typed at this pace.
const echoTimeout = 200 * time.Millisecond

// Type types text one character at a time and waits for the echo of each:
// firmware and boot loaders lose what is typed faster than they read.
func (vm *VM) Type(ctx context.Context, text string) error {
	for _, char := range text {
		changed := vm.console.next()
		if err := vm.Send(string(char)); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-time.After(Patience(echoTimeout)):
		case <-ctx.Done():
			return fmt.Errorf("type on the console of %s: %w", vm.Name(), context.Cause(ctx))
		}
	}
	return nil
}

// Kill pulls the plug, and returns when the machine is off. What QEMU had
// written to its disks by then is kept.
func (vm *VM) Kill() error {
	vm.killed.Store(true)
	err := vm.cmd.Process.Kill()
	<-vm.exited
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill machine %s: %w", vm.Name(), err)
	}
	return nil
}

// PowerDown presses the power button (ACPI); the guest decides what it does.
func (vm *VM) PowerDown(ctx context.Context) error {
	return vm.command(ctx, "system_powerdown")
}

// Reset presses the reset button.
func (vm *VM) Reset(ctx context.Context) error { return vm.command(ctx, "system_reset") }

// PullCable takes the cable out of a card: the guest sees that the carrier is
// gone.
func (vm *VM) PullCable(ctx context.Context, card int) error {
	return vm.order(ctx, "set_link", map[string]any{"name": fmt.Sprintf("net%d", card), "up": false})
}

func (vm *VM) command(ctx context.Context, name string) error {
	return vm.order(ctx, name, map[string]any{})
}

func (vm *VM) order(ctx context.Context, name string, arguments map[string]any) error {
	if err := vm.monitor.do(ctx, name, arguments); err != nil {
		return fmt.Errorf("machine %s: %w", vm.Name(), err)
	}
	return nil
}

// Exited is closed when the machine is off.
func (vm *VM) Exited() <-chan struct{} { return vm.exited }

// Wait waits until the machine is off. The error says that QEMU crashed; a
// guest that switched itself off and a call of Kill are no errors.
func (vm *VM) Wait(ctx context.Context) error {
	select {
	case <-vm.exited:
	case <-ctx.Done():
		return fmt.Errorf("wait for machine %s to stop: %w", vm.Name(), context.Cause(ctx))
	}
	if vm.exitErr != nil && !vm.killed.Load() {
		return fmt.Errorf("machine %s: QEMU: %w: %s", vm.Name(), vm.exitErr, vm.complaints())
	}
	return nil
}

func (vm *VM) running() bool {
	select {
	case <-vm.exited:
		return false
	default:
		return true
	}
}

// state is the machine's state as a Report shows it.
func (vm *VM) state() string {
	if vm.running() {
		return fmt.Sprintf("runs for %ss", seconds(time.Since(vm.started)))
	}
	how := "switched itself off"
	if vm.killed.Load() {
		how = "was killed"
	} else if vm.exitErr != nil {
		how = "ended: " + vm.exitErr.Error()
	}
	return fmt.Sprintf("%s after %ss", how, seconds(vm.stopped.Sub(vm.started)))
}
