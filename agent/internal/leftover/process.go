package leftover

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"
)

type process struct {
	dir string // "/proc/1234"
	pid int
}

type owned struct {
	pid  int
	name string
	unit string // "ssh.service"; "" when of no system service
}

const maxProcesses = 1 << 17

func processes(proc string) ([]int, error) {
	dir, err := os.Open(proc)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(maxProcesses)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	if len(names) == maxProcesses {
		err = fmt.Errorf("look at the processes in %s: there are more than %d", proc, len(pids))
	}
	return pids, err
}

// isGone tells that a process ended meanwhile.
func isGone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) }

// isForbidden tells that a process may not be looked at (ptrace(2), "Ptrace
// access mode checking").
func isForbidden(err error) bool { return errors.Is(err, fs.ErrPermission) }

// view is what a process sees of the file systems.
type view struct {
	namespace  string // "mnt:[4026531841]"
	dev, inode uint64 // of its root directory
}

func (v view) same(other view) bool {
	return v.namespace == other.namespace || v.dev == other.dev && v.inode == other.inode
}

func (f Finder) view(process string) (view, error) {
	dir := filepath.Join(f.Proc, process)
	namespace, err := os.Readlink(filepath.Join(dir, "ns/mnt"))
	if err != nil {
		return view{}, err
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, "root"), &st); err != nil {
		return view{}, &fs.PathError{Op: "stat", Path: filepath.Join(dir, "root"), Err: err}
	}
	return view{namespace, st.Dev, st.Ino}, nil
}

// owner names a process and its unit. What cannot be read is left empty: the
// process may just have ended.
func (p process) owner() owned {
	name := plain(strings.TrimSuffix(p.read("comm"), "\n"))
	return owned{p.pid, cmp.Or(name, "?"), serviceOf(p.read("cgroup"))}
}

const maxText = 64 << 10

func (p process) read(name string) string {
	f, err := os.Open(filepath.Join(p.dir, name))
	if err != nil {
		return ""
	}
	defer f.Close()
	text, _ := io.ReadAll(io.LimitReader(f, maxText))
	return string(text)
}

// plain is a name that a terminal may show: programs choose theirs.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return '?'
		}
		return r
	}, s)
}

// serviceOf is the system service in the text of /proc/PID/cgroup, or "". Its
// lines are "ID:CONTROLLERS:PATH"; systemd's are "0::PATH" (cgroup 2) and
// "1:name=systemd:PATH".
func serviceOf(cgroup string) string {
	for line := range strings.Lines(cgroup) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) == 3 && (parts[1] == "" && parts[0] == "0" || parts[1] == "name=systemd") {
			if unit := serviceIn(parts[2]); unit != "" {
				return unit
			}
		}
	}
	return ""
}

// serviceIn is the service of a control group, the first below slices:
// "/system.slice/ssh.service", "/system.slice/x.slice/docker.service/7f3a". What
// lies in user.slice belongs to a session, also its user@1000.service.
func serviceIn(group string) string {
	for part := range strings.SplitSeq(strings.Trim(group, "/"), "/") {
		part = strings.TrimPrefix(part, "_") // which systemd sets before names that the kernel has, too
		switch {
		case part == "user.slice":
			return ""
		case strings.HasSuffix(part, ".slice"):
			continue
		case strings.HasSuffix(part, ".service") && plain(part) == part:
			return part
		}
		return ""
	}
	return ""
}

// rebooted are services that are not to be restarted while others run: all
// others talk through them, the network or the screen goes away with them, or
// they refuse. (needrestart leaves much the same alone.)
var rebooted = []string{
	"dbus.service", "dbus-broker.service", "systemd-logind.service", "auditd.service",
	"networking.service", "network.service", "ifup@*.service",
	"display-manager.service", "gdm*.service", "lightdm.service", "sddm.service",
}

func onlyByReboot(unit string) bool {
	for _, pattern := range rebooted {
		if ok, _ := path.Match(pattern, unit); ok {
			return true
		}
	}
	return false
}
