package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"edeploy/agent/internal/command"
	"edeploy/agent/internal/installed"

	"golang.org/x/sys/unix"
)

// errRebootNeeded ends a command that did all but the reboot.
var errRebootNeeded = errors.New("a reboot is needed")

// restart reboots as the original does: sync, 2 s, reboot (reference section
// 10.3 step 10).
func restart(ctx context.Context) error {
	unix.Sync()
	select {
	case <-time.After(2 * time.Second):
	case <-ctx.Done():
		return errRebootNeeded
	}
	if _, err := command.On(nil)(ctx, command.Command{Argv: []string{"reboot"}}); err != nil {
		return fmt.Errorf("%w: %w", errRebootNeeded, err)
	}
	return nil
}

// foreignKernel is the running kernel when the installed system has no modules
// for it: it belongs to another version.
func (p program) foreignKernel(machine installed.Machine) (release string, foreign bool) {
	release = p.release
	if release == "" {
		if machine.Root != "/" {
			return "", false
		}
		var u unix.Utsname
		if unix.Uname(&u) != nil {
			return "", false
		}
		release = unix.ByteSliceToString(u.Release[:])
	}
	modules := machine.Path("lib/modules")
	if _, err := os.Stat(modules); err != nil {
		return release, false // a system without modules of its own, such as a container
	}
	_, err := os.Stat(filepath.Join(modules, release))
	return release, err != nil
}
