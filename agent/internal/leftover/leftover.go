// Package leftover finds the processes that still run what an upgrade or a
// rollback replaced, and the units of systemd that they belong to.
//
// It reads, in /proc, self/mountinfo and of every process maps, cgroup, comm,
// and where root and ns/mnt lead to (proc(5)).
//
// The rule: a process is left over when it maps a file as executable, which
// programs and libraries are, and the file is no part of the installed tree any
// more. That is so when its path, as the kernel shows it now, is
//
//   - MOUNT/.edeploy/N/..., whatever follows: the upgrade renamed it to there,
//     to keep it for a rollback. The kernel follows renames, and goes on to show
//     that path, with " (deleted)", when the file is removed later.
//   - "/", with or without " (deleted)": the same, for services whose /usr is a
//     mount of their own (ProtectSystem= of systemd.exec(5)). The file has left
//     that mount, so the kernel knows no path of it.
//   - PATH (deleted), where PATH is a file of the machine's manifest and there
//     is another inode now, or nothing: a script of the upgrade, or somebody
//     since, replaced it. (The inode of a mapped file is not used again. Its
//     device is not compared: Btrfs shows another one in maps than in stat.)
//
// So nothing is said of what programs delete themselves: temporary files, shared
// memory, memfd, code made at run time (JIT). They are in no manifest.
//
// Only processes count that see the machine's own tree: in the same mount
// namespace as the caller, or with the same root directory, as services have
// that systemd gives a namespace of their own. Containers have neither.
//
// Not seen: interpreted programs (of Python, Perl, shells), whose interpreter is
// the same as before; data and configuration; the kernel.
package leftover

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"edeploy/agent/internal/disk"
	"edeploy/images/manifest"
)

// Report is who still runs what was replaced. Lists are sorted and not nil.
type Report struct {
	Services  []Service `json:"services"`  // that can be restarted
	Reboot    []Service `json:"reboot"`    // that only a reboot restarts sensibly
	Systemd   bool      `json:"systemd"`   // process 1: systemctl daemon-reexec
	Processes []Process `json:"processes"` // of no service: of sessions, started by hand
	Unknown   int       `json:"unknown"`   // processes that the caller may not look at
}

// Service is a system service.
type Service struct {
	Unit string `json:"unit"` // "ssh.service"
	PIDs []int  `json:"pids"` // of those of its processes that are left over
}

// Process is one of no service.
type Process struct {
	PID  int    `json:"pid"`
	Name string `json:"name"` // the first 15 bytes of it; what is not printable is "?"
}

// Empty tells that nothing is left over, as far as is known.
func (r *Report) Empty() bool {
	return len(r.Services) == 0 && len(r.Reboot) == 0 && len(r.Processes) == 0 && !r.Systemd
}

// Finder looks for processes.
type Finder struct {
	Proc string // where proc(5) is mounted; "" is /proc
	Root string // of the machine; "" is /
	Self int    // a process that does not count: the one that asks; 0: none

	// Manifest is that of the installed tree. It is asked for once, when the
	// path of a process is to be looked up in it.
	Manifest func() (*manifest.Manifest, error)

	Patience time.Duration // with a kernel that does not answer; 0: 10 s
}

const patience = 10 * time.Second

// Find looks at all processes; who is not root may only look at its own. With
// an error there is no report.
func (f Finder) Find(ctx context.Context) (*Report, error) {
	f.Proc, f.Root = filepath.Clean(cmp.Or(f.Proc, "/proc")), filepath.Clean(cmp.Or(f.Root, "/"))
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(f.Patience, patience))
	defer cancel()
	type answer struct {
		report *Report
		err    error
	}
	// The kernel may hold up a reader of maps for as long as the process is
	// stuck in it: such a read is left behind.
	done := make(chan answer, 1)
	go func() {
		report, err := f.find(ctx)
		done <- answer{report, err}
	}()
	select {
	case a := <-done:
		return a.report, a.err
	case <-ctx.Done():
		return nil, fmt.Errorf("look at the processes in %s: %w", f.Proc, ctx.Err())
	}
}

func (f Finder) find(ctx context.Context) (*Report, error) {
	tree, err := f.tree()
	if err != nil {
		return nil, err
	}
	pids, err := processes(f.Proc)
	if err != nil {
		return nil, err
	}
	self, err := f.view("self")
	if err != nil {
		return nil, err
	}
	var found []owned
	unknown := 0
	for _, pid := range pids {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if pid == f.Self {
			continue
		}
		p := process{filepath.Join(f.Proc, fmt.Sprint(pid)), pid}
		stale, err := f.stale(p, self, tree)
		switch {
		case isGone(err):
		case isForbidden(err):
			unknown++
		case err != nil:
			return nil, err
		case stale:
			found = append(found, p.owner())
		}
	}
	report := newReport(found)
	report.Unknown = unknown
	return report, nil
}

// tree is what the machine's paths mean.
func (f Finder) tree() (*tree, error) {
	mounts, err := disk.Below(filepath.Join(f.Proc, "self/mountinfo"), f.Root)
	if err != nil {
		return nil, err
	}
	t := &tree{root: f.Root, manifest: f.Manifest, inode: inodeOf}
	t.keep(f.Root)
	for _, m := range mounts {
		t.keep(m.Point)
	}
	return t, nil
}

// stale tells whether a process of the machine's own is left over.
func (f Finder) stale(p process, self view, t *tree) (bool, error) {
	maps, err := os.Open(filepath.Join(p.dir, "maps"))
	if err != nil {
		return false, err
	}
	defer maps.Close()
	stale, err := t.anyReplaced(maps)
	if err != nil || !stale {
		return false, err
	}
	sees, err := f.view(fmt.Sprint(p.pid))
	return err == nil && sees.same(self), err
}

func newReport(found []owned) *Report {
	r := &Report{Services: []Service{}, Reboot: []Service{}, Processes: []Process{}}
	units := map[string][]int{}
	for _, o := range found {
		switch {
		case o.pid == 1 && o.name == "systemd":
			r.Systemd = true
		case o.unit != "":
			units[o.unit] = append(units[o.unit], o.pid)
		default:
			r.Processes = append(r.Processes, Process{o.pid, o.name})
		}
	}
	for unit, pids := range units {
		slices.Sort(pids)
		to := &r.Services
		if onlyByReboot(unit) {
			to = &r.Reboot
		}
		*to = append(*to, Service{unit, pids})
	}
	byUnit := func(a, b Service) int { return cmp.Compare(a.Unit, b.Unit) }
	slices.SortFunc(r.Services, byUnit)
	slices.SortFunc(r.Reboot, byUnit)
	slices.SortFunc(r.Processes, func(a, b Process) int { return cmp.Compare(a.PID, b.PID) })
	return r
}
