package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Start switches a machine on. It runs until ctx ends, it is killed, the guest
// switches it off, or the lab closes. It may be started again after that, with
// the same disks; its logs then get a number.
func (l *Lab) Start(ctx context.Context, m Machine) (*VM, error) {
	m, err := m.completed()
	if err != nil {
		return nil, fmt.Errorf("start machine %s: %w", m.Name, err)
	}
	vm, err := l.start(ctx, m)
	if err != nil {
		return nil, fmt.Errorf("start machine %s: %w", m.Name, err)
	}
	l.mu.Lock()
	l.vms = append(l.vms, vm)
	closed := l.closed
	l.mu.Unlock()
	if closed {
		return nil, errors.Join(fmt.Errorf("start machine %s: %w", m.Name, errClosed), vm.Kill())
	}
	l.log.Info("machine started", "machine", m.Name, "console", vm.consolePath)
	return vm, nil
}

func (l *Lab) start(ctx context.Context, m Machine) (*VM, error) {
	qemu, err := findTool("qemu-system-x86_64")
	if err != nil {
		return nil, err
	}
	accel, err := Accel()
	if err != nil {
		return nil, err
	}
	vm := &VM{machine: m, lab: l, exited: make(chan struct{}), forwarded: map[int]string{}}
	l.mu.Lock()
	vm.consolePath = l.Path(l.unusedLocked(m.Name, ".console.log"))
	vm.qemuPath = l.Path(l.unusedLocked(m.Name, ".qemu.log"))
	l.mu.Unlock()
	sockets, err := os.MkdirTemp(l.sockets, "vm")
	if err != nil {
		return nil, fmt.Errorf("make a directory for sockets: %w", err)
	}
	p, err := vm.plumb(sockets, accel)
	if err == nil {
		err = vm.run(ctx, qemu, p)
	}
	if err != nil {
		vm.unplug()
		return nil, err
	}
	return vm, nil
}

// plumb makes everything QEMU connects to but console and monitor.
func (vm *VM) plumb(sockets string, accel Accelerator) (plumbing, error) {
	p := plumbing{
		accel:   accel,
		console: filepath.Join(sockets, "console"),
		monitor: filepath.Join(sockets, "monitor"),
	}
	for i, n := range vm.machine.NICs {
		var port *Port
		wire := ""
		var err error
		if n.Hub != nil {
			wire = filepath.Join(sockets, fmt.Sprintf("eth%d", i))
			port, err = n.Hub.Listen(fmt.Sprintf("%s.eth%d", vm.machine.Name, i), wire)
		} else {
			err = vm.forward(n.User.Forward)
		}
		if err != nil {
			return p, err
		}
		vm.ports = append(vm.ports, port)
		p.wires = append(p.wires, wire)
	}
	p.forwarded = vm.forwarded
	if vm.machine.Firmware == BIOS {
		return p, nil
	}
	var err error
	p.code, p.vars, err = vm.lab.ovmf(vm.machine)
	return p, err
}

// forward finds a free TCP port of the host for every port of the guest.
func (vm *VM) forward(guest []int) error {
	for _, port := range guest {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("find a free port: %w", err)
		}
		defer l.Close() // after the last, so that all differ
		vm.forwarded[port] = l.Addr().String()
	}
	return nil
}

// ovmf finds the UEFI firmware and makes the machine's variables the first time.
func (l *Lab) ovmf(m Machine) (code, vars string, err error) {
	program, empty, kept := "OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd", ".vars.fd"
	if m.Firmware == SecureBoot {
		program, empty, kept = "OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.ms.fd", ".secure.vars.fd"
	}
	code, err = findFile("/usr/share/OVMF/" + program)
	if err != nil {
		return "", "", err
	}
	vars = l.Path(m.Name + kept)
	if _, err := os.Stat(vars); err == nil {
		return code, vars, nil
	}
	fresh, err := findFile("/usr/share/OVMF/" + empty)
	if err != nil {
		return "", "", err
	}
	content, err := os.ReadFile(fresh)
	if err != nil {
		return "", "", fmt.Errorf("copy UEFI variables: %w", err)
	}
	if err := os.WriteFile(vars, content, 0o644); err != nil {
		return "", "", fmt.Errorf("copy UEFI variables: %w", err)
	}
	return code, vars, nil
}

// connectTimeout is how long QEMU may take to connect console and monitor.
const connectTimeout = 20 * time.Second

// run starts QEMU and waits until console and monitor are there.
func (vm *VM) run(ctx context.Context, qemu string, p plumbing) error {
	serial, err := net.Listen("unix", p.console)
	if err != nil {
		return fmt.Errorf("listen for the console: %w", err)
	}
	defer serial.Close()
	control, err := net.Listen("unix", p.monitor)
	if err != nil {
		return fmt.Errorf("listen for the monitor: %w", err)
	}
	defer control.Close()
	if err := vm.launch(ctx, qemu, vm.machine.args(p)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, Patience(connectTimeout))
	defer cancel()
	ctx, ended := context.WithCancelCause(ctx)
	go func() {
		<-vm.exited
		ended(fmt.Errorf("QEMU ended at once: %v", vm.exitErr))
	}()
	if err := vm.connect(ctx, serial, control); err != nil {
		return errors.Join(fmt.Errorf("%w; QEMU says: %s", err, vm.complaints()), vm.Kill())
	}
	return nil
}

// launch starts QEMU such that it ends with this process, however that ends.
func (vm *VM) launch(ctx context.Context, qemu string, args []string) error {
	log, err := os.Create(vm.qemuPath)
	if err != nil {
		return fmt.Errorf("make QEMU's log: %w", err)
	}
	fmt.Fprintf(log, "%s %s\n", qemu, strings.Join(args, " "))
	vm.cmd = exec.CommandContext(ctx, qemu, args...)
	vm.cmd.Cancel = func() error {
		vm.killed.Store(true)
		return vm.cmd.Process.Kill()
	}
	vm.cmd.Stdout, vm.cmd.Stderr = log, log
	vm.cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL,
		Setpgid:   true, // Ctrl-C is for the program, which then closes the lab
	}
	running := make(chan error)
	go func() {
		// The parent-death signal comes when the starting thread ends
		// (prctl(2) PR_SET_PDEATHSIG), so the thread stays until QEMU ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer log.Close()
		vm.started = time.Now()
		err := vm.cmd.Start()
		running <- err
		if err == nil {
			vm.exitErr = vm.cmd.Wait()
			vm.stopped = time.Now()
			close(vm.exited)
			vm.unplug()
		}
	}()
	if err := <-running; err != nil {
		return fmt.Errorf("start QEMU: %w", err)
	}
	return nil
}

// unplug takes the machine's cards off their hubs.
func (vm *VM) unplug() {
	for _, port := range vm.ports {
		if port != nil {
			port.Close()
		}
	}
}

func (vm *VM) connect(ctx context.Context, serial, control net.Listener) error {
	var err error
	if vm.serial, err = accept(ctx, serial); err != nil {
		return fmt.Errorf("connect to the console: %w", err)
	}
	log, err := os.Create(vm.consolePath)
	if err != nil {
		return fmt.Errorf("make the console's log: %w", err)
	}
	vm.console = newConsole(log)
	go func() {
		defer log.Close()
		defer vm.serial.Close()
		vm.console.follow(vm.serial)
	}()
	conn, err := accept(ctx, control)
	if err != nil {
		return fmt.Errorf("connect to the monitor: %w", err)
	}
	go func() {
		<-vm.exited
		conn.Close()
	}()
	vm.monitor, err = newMonitor(ctx, conn)
	return err
}

// accept waits for QEMU's connection, or for ctx.
func accept(ctx context.Context, l net.Listener) (net.Conn, error) {
	defer context.AfterFunc(ctx, func() { l.Close() })()
	conn, err := l.Accept()
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return conn, err
}
