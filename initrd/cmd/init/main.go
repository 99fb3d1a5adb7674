// Command init is the first program of the initrd. It starts the agent and
// stays behind it: it collects orphaned processes, and when the agent ends
// without having restarted the machine (it crashed, or there is none) it says so
// and offers a shell on the console instead of a kernel panic.
//
// It reads nothing, runs /usr/bin/agent with its own arguments and
// environment, and mounts only what its shell needs when that is missing.
package main

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const agent = "/usr/bin/agent"

func main() {
	setEnvironment()
	outcome := run(agent, append([]string{agent}, os.Args[1:]...), false)
	for {
		fmt.Fprintf(os.Stderr, "\nThe agent ended: %s. The machine stays as it is; here is a shell, \"agent\" starts over, \"reboot\" restarts the machine.\n", outcome)
		unix.Mount("devtmpfs", "/dev", "devtmpfs", 0, "") // busy when the agent did
		unix.Mount("proc", "/proc", "proc", 0, "")
		outcome = "its shell, " + run("/bin/sh", []string{"sh"}, true)
		time.Sleep(time.Second) // a console that is gone must not make this spin
	}
}

// setEnvironment gives all programs a search path, and tells device-mapper
// and RAID tools not to wait for udev, which is not there.
func setEnvironment() {
	for name, value := range map[string]string{
		"PATH":            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/bbin",
		"HOME":            "/root",
		"DM_DISABLE_UDEV": "1", // libdevmapper, used by lvm, dmsetup and parted
		"MDADM_NO_UDEV":   "1",
	} {
		os.Setenv(name, value)
	}
}

// run starts a program and answers how it ended. All other processes that end
// meanwhile were left behind by their parents; waiting for them is init's duty.
func run(path string, argv []string, session bool) string {
	child, err := syscall.ForkExec(path, argv, &syscall.ProcAttr{
		Dir: "/", Env: os.Environ(), Files: []uintptr{0, 1, 2},
		Sys: &syscall.SysProcAttr{Setsid: session},
	})
	if err != nil {
		return fmt.Sprintf("start %s: %v", path, err)
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return fmt.Sprintf("wait for %s: %v", path, err)
		case pid == child && status.Signaled():
			return "signal " + status.Signal().String()
		case pid == child:
			return fmt.Sprintf("exit status %d", status.ExitStatus())
		}
	}
}
