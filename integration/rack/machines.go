package rack

import (
	"bufio"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"edeploy/integration/lab"
	"edeploy/server/api"
	"edeploy/server/wire"
)

// Ctl runs edeployctl against the appliance; what it prints comes back.
func (r *Rack) Ctl(ctx context.Context, args ...string) (string, error) {
	return ctl(ctx, r.out, r.server, args...)
}

func ctl(ctx context.Context, out, server string, args ...string) (string, error) {
	text, err := ctlCommand(ctx, out, server, args...).CombinedOutput()
	if err != nil {
		return string(text), fmt.Errorf("edeployctl %s: %w\n%s", strings.Join(args, " "), err, text)
	}
	return string(text), nil
}

func ctlCommand(ctx context.Context, out, server string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(out, "bin", "edeployctl"), args...)
	cmd.Env = append(os.Environ(), "EDEPLOY_SERVER="+server)
	return cmd
}

// Push brings an image that `make role` built to the appliance, and says now
// and then what edeployctl says.
func (r *Rack) Push(ctx context.Context, ref wire.ImageRef) error {
	end := r.Lab.Timeline.Begin("appliance", "push "+ref.String())
	defer end()
	cmd := ctlCommand(ctx, r.out, r.server, "push", filepath.Join(r.out, "install", ref.Archive()))
	lines, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	last, told := "", time.Now()
	for scanner := bufio.NewScanner(lines); scanner.Scan(); {
		last = scanner.Text()
		if time.Since(told) >= silence/2 {
			r.say("%s", last)
			told = time.Now()
		}
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("push %s: %w: %s", ref, err, last)
	}
	return nil
}

// Configure replaces the appliance's profiles by the given files: name to
// text. flags are those of config push.
func (r *Rack) Configure(ctx context.Context, files map[string]string, flags ...string) error {
	dir := r.Lab.Path("config")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	_, err := r.Ctl(ctx, append([]string{"config", "push", dir}, flags...)...)
	return err
}

// ConfigFile reads one file of the appliance's configuration directory.
func (r *Rack) ConfigFile(ctx context.Context, name string) (string, error) {
	return r.Ctl(ctx, "config", "show", name)
}

// Find is the machine with this Ethernet address, nil when the appliance does
// not know it.
func (r *Rack) Find(ctx context.Context, mac string) (*api.Machine, error) {
	all, err := r.client.Machines(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(m api.Machine) bool { return slices.Contains(m.MACs, mac) })
	if i < 0 {
		return nil, nil
	}
	m, err := r.client.Machine(ctx, all[i].ID)
	if err != nil {
		return nil, err
	}
	return &m, nil
}

// Blank describes a machine with nothing on its disks.
type Blank struct {
	Name     string
	Disks    []int64      // sizes in bytes; nil: one of 3 GB
	MemoryMB int          // 0: 1024
	Product  string       // what its firmware says it is
	Firmware lab.Firmware // zero: BIOS
	Bus      lab.Bus      // of its disks; zero: Virtio
	Card     string       // model of its network cards, see lab.NIC; zero: virtio
	Cards    int          // how many; 0: one
	Pulled   []int        // disks, from 0, that are not in the machine
	Extra    []string     // more arguments for QEMU

	// Copy, when it is not empty, names a copy of the machine's disks that the
	// machine runs on instead of them: the same machine to everybody else,
	// and its own disks stay as they are.
	Copy string
}

// Power switches a machine on, network first. Its disks are made when they do
// not exist, so the same Blank powers an installed machine on again.
func (r *Rack) Power(ctx context.Context, b Blank) (*lab.VM, error) {
	if b.Disks == nil {
		b.Disks = []int64{3e9}
	}
	m := lab.Machine{Name: b.Name, MemoryMB: b.MemoryMB, Boot: lab.NetworkFirst, Firmware: b.Firmware,
		NICs: slices.Repeat([]lab.NIC{{Hub: r.Hub, Model: b.Card}}, max(1, b.Cards)), SMBIOS: lab.SMBIOS{Product: b.Product}, Extra: b.Extra}
	for i, size := range b.Disks {
		if slices.Contains(b.Pulled, i) {
			continue
		}
		path, err := r.makeDisk(b, i, size)
		if err != nil {
			return nil, err
		}
		m.Disks = append(m.Disks, lab.Disk{Path: path, Bus: b.Bus})
	}
	return r.Lab.Start(ctx, m)
}

// makeDisk makes a machine's disk, or its copy, when it does not exist.
func (r *Rack) makeDisk(b Blank, i int, size int64) (string, error) {
	disk := r.Disk(b.Name, i)
	if b.Copy == "" {
		if _, err := os.Stat(disk); err == nil {
			return disk, nil
		}
		return disk, lab.BlankDisk(disk, size)
	}
	overlay := r.Lab.Path(fmt.Sprintf("%s-%d-%s.qcow2", b.Name, i, b.Copy))
	if _, err := os.Stat(overlay); err == nil {
		return overlay, nil
	}
	return overlay, lab.Overlay(disk, overlay)
}

// Disk is the file behind a machine's disk.
func (r *Rack) Disk(machine string, i int) string {
	return r.Lab.Path(fmt.Sprintf("%s-%d.img", machine, i))
}

// AwaitState waits until the appliance says that a machine is in a state. A
// machine that failed is an error with the appliance's reason, unless failed
// is the state that is waited for. What happens meanwhile is said.
func (r *Rack) AwaitState(ctx context.Context, vm *lab.VM, state string, patience time.Duration) (*api.Machine, error) {
	ctx, cancel := lab.Deadline(ctx, patience)
	defer cancel()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	told := told{last: time.Now()}
	for {
		m, err := r.Find(ctx, vm.MAC(0))
		r.tell(vm, m, &told)
		if err == nil && m != nil {
			if m.State == state {
				for _, step := range Steps(m, vm.Name()) {
					r.Lab.Timeline.Add(step.Machine, step.Name, step.Start, step.End)
				}
				return m, nil
			}
			if m.State == "failed" && state != "failed" {
				return m, fmt.Errorf("machine %s failed: %s", vm.Name(), m.LastError)
			}
		}
		select {
		case <-tick.C:
		case <-vm.Exited():
			return m, fmt.Errorf("machine %s switched itself off before it was %s: %s", vm.Name(), state, describe(m, err))
		case <-ctx.Done():
			return m, fmt.Errorf("machine %s is not %s in time: %s", vm.Name(), state, describe(m, err))
		}
	}
}

func describe(m *api.Machine, err error) string {
	switch {
	case err != nil:
		return err.Error()
	case m == nil:
		return "the appliance never heard of it"
	case m.Progress != nil:
		return fmt.Sprintf("%s, step %s %s: %s", m.State, m.Progress.Step, m.Progress.Status, m.Progress.Message)
	}
	return m.State + " " + m.LastError
}

// told is what a person was told about a machine.
type told struct {
	lines int       // of its history
	last  time.Time // when anything was said
}

// silence is how long a person is left without a word about a machine.
const silence = 10 * time.Second

// tell says the lines of the history that were not told yet and, after a
// silence, how far the machine is. m is nil as long as the appliance does not
// know it.
func (r *Rack) tell(vm *lab.VM, m *api.Machine, t *told) {
	if m == nil {
		m = &api.Machine{}
	}
	for _, l := range m.History[min(t.lines, len(m.History)):] {
		if l.Status != string(wire.StatusStarted) {
			r.say("%s: %s", vm.Name(), lineText(l))
			t.last = time.Now()
		}
	}
	t.lines = len(m.History)
	if time.Since(t.last) < silence {
		return
	}
	t.last = time.Now()
	if p := m.Progress; p != nil && p.Percent > 0 && p.Percent < 100 {
		r.say("%s: %s %.0f%%, %.1f MB/s", vm.Name(), p.Step, p.Percent, p.BytesPerSecond/1e6)
		return
	}
	r.tellConsole(vm)
}

// tellConsole says the last line of a machine's console that says something:
// boot loaders show their progress by dots.
func (r *Rack) tellConsole(vm *lab.VM) {
	for _, line := range slices.Backward(vm.LastLines(5)) {
		if strings.Trim(line, " .") != "" {
			r.say("%s: on its console: %.100s", vm.Name(), strings.TrimSpace(line))
			return
		}
	}
}

// followConsole says the last line of a machine's console after every silence
// until stop is called.
func (r *Rack) followConsole(vm *lab.VM) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var following sync.WaitGroup
	following.Go(func() {
		tick := time.NewTicker(silence)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				r.tellConsole(vm)
			case <-ctx.Done():
				return
			}
		}
	})
	return func() { cancel(); following.Wait() }
}

// lineText is a line of a history for a person who sees it happen.
func lineText(l api.HistoryLine) string {
	text := l.Step
	if l.Status != "note" {
		text += " " + l.Status
	}
	if l.Seconds > 0 {
		text += fmt.Sprintf(" (%.1f s)", l.Seconds)
	}
	if l.Message != "" {
		text += ": " + l.Message
	}
	return text
}

// Steps are a machine's own timings, for the lab's table.
func Steps(m *api.Machine, name string) []lab.TimedStep {
	var steps []lab.TimedStep
	for _, l := range m.History {
		if l.Seconds == 0 {
			continue
		}
		step := l.Step
		if l.Status == string(wire.StatusInstalled) {
			step = "installed, all steps" // its report names the last of them
		}
		took := time.Duration(l.Seconds * float64(time.Second))
		steps = append(steps, lab.TimedStep{Machine: name, Name: step, Start: l.Time.Add(-took), End: l.Time})
	}
	return steps
}

// Address is the address that a machine was given by its CMDB entry.
func (r *Rack) Address(ctx context.Context, vm *lab.VM) (netip.Addr, error) {
	m, err := r.Find(ctx, vm.MAC(0))
	if err != nil {
		return netip.Addr{}, err
	}
	if m == nil || m.Allocation == nil {
		return netip.Addr{}, fmt.Errorf("machine %s holds no profile", vm.Name())
	}
	found := regexp.MustCompile(`'ip': '([0-9.]+)'`).FindStringSubmatch(m.Allocation.Var + m.Allocation.CMDB)
	if found == nil {
		return netip.Addr{}, fmt.Errorf("machine %s has no address in its variables: %s", vm.Name(), m.Allocation.Var)
	}
	return netip.ParseAddr(found[1])
}
