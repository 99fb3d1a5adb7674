// Package lab builds racks in one process: QEMU machines, an Ethernet hub
// between them, and user-space hosts plugged into that hub. It needs neither
// root nor taps nor namespaces, so a story, a benchmark and the demo can all
// be told with it.
//
// A Lab owns a directory. For every hub it writes NAME.pcap there, for every
// machine NAME.console.log (what the serial console said, byte for byte) and
// NAME.qemu.log (QEMU's command line and complaints). When something goes
// wrong, Lab.Report says where to look.
//
// Environment: EDEPLOY_ACCEL=kvm|tcg skips the accelerator probe,
// EDEPLOY_PATIENCE=FACTOR stretches every deadline (see Patience).
package lab

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"
)

// Lab is a set of hubs and machines that end together.
type Lab struct {
	Timeline *Timeline // steps of this lab; stories add theirs

	dir     string // console logs, pcaps, overlays
	sockets string // unix sockets: a short path, see maxSocketPath
	log     *slog.Logger

	mu     sync.Mutex
	closed bool
	hubs   []*Hub
	vms    []*VM
	names  map[string]int // files already used, by name
}

// New makes a lab that keeps its logs and captures in dir, which is made if it
// is not there. The directory stays after Close. A nil log is silent.
func New(dir string, log *slog.Logger) (*Lab, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the lab's directory: %w", err)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("find the lab's directory %s: %w", dir, err)
	}
	sockets, err := makeSocketDir()
	if err != nil {
		return nil, err
	}
	return &Lab{
		Timeline: NewTimeline(time.Now),
		dir:      dir,
		sockets:  sockets,
		log:      cmp.Or(log, slog.New(slog.DiscardHandler)),
		names:    map[string]int{},
	}, nil
}

// maxSocketPath leaves room for a file name below the 108 bytes that unix(7)
// allows for the whole path of a socket.
const maxSocketPath = 70

func makeSocketDir() (string, error) {
	dir := os.TempDir()
	if len(dir) > maxSocketPath-20 {
		dir = "/tmp"
	}
	sockets, err := os.MkdirTemp(dir, "lab")
	if err != nil {
		return "", fmt.Errorf("make a directory for sockets: %w", err)
	}
	return sockets, nil
}

// Path is the path of a file in the lab's directory.
func (l *Lab) Path(name string) string { return filepath.Join(l.dir, name) }

// Hub makes a hub whose capture is NAME.pcap.
func (l *Lab) Hub(name string) (*Hub, error) {
	if err := checkName(name); err != nil {
		return nil, fmt.Errorf("make hub: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errClosed
	}
	capture, err := os.Create(l.Path(l.unusedLocked(name, ".pcap")))
	if err != nil {
		return nil, fmt.Errorf("make capture of hub %s: %w", name, err)
	}
	h, err := NewHub(name, capture, l.log.With("hub", name))
	if err != nil {
		return nil, errors.Join(err, capture.Close())
	}
	l.hubs = append(l.hubs, h)
	return h, nil
}

var errClosed = errors.New("the lab is closed")

var goodName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,30}$`)

// checkName accepts what is good as part of a file name and of a QEMU option.
func checkName(name string) error {
	if !goodName.MatchString(name) {
		return fmt.Errorf("name %q: use up to 31 letters, digits, - and _", name)
	}
	return nil
}

// unusedLocked is name+suffix, or name-2+suffix for the second of its name:
// a machine that is started again keeps the log of its first life.
func (l *Lab) unusedLocked(name, suffix string) string {
	l.names[name+suffix]++
	if n := l.names[name+suffix]; n > 1 {
		return fmt.Sprintf("%s-%d%s", name, n, suffix)
	}
	return name + suffix
}

// Close stops every machine, then every hub, and removes the sockets. Logs and
// captures stay. It may be called twice.
func (l *Lab) Close() error {
	l.mu.Lock()
	vms, hubs := l.vms, l.hubs
	again := l.closed
	l.closed = true
	l.mu.Unlock()
	if again {
		return nil
	}
	var errs []error
	for _, vm := range vms {
		errs = append(errs, vm.Kill())
	}
	for _, h := range hubs {
		errs = append(errs, h.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(l.sockets))...)
}

// reportLines is how much of a console a Report repeats.
const reportLines = 25

// Report writes what a reader needs when a story has failed: one sentence, the
// state and last console lines of every machine, the timings so far, and where
// logs and captures are.
func (l *Lab) Report(w io.Writer) {
	l.mu.Lock()
	vms, hubs := l.vms, l.hubs
	l.mu.Unlock()
	running := 0
	for _, vm := range vms {
		if vm.running() {
			running++
		}
	}
	fmt.Fprintf(w, "lab: %d of %d machines are running (accelerator %s); logs and captures are in %s\n", running, len(vms), accelName(), l.dir)
	for _, vm := range vms {
		fmt.Fprintf(w, "\n--- %s %s, console %s\n", vm.Name(), vm.state(), vm.ConsolePath())
		for _, line := range vm.LastLines(reportLines) {
			fmt.Fprintf(w, "    %s\n", line)
		}
		if text := vm.complaints(); text != "" {
			fmt.Fprintf(w, "    QEMU says: %s\n", text)
		}
	}
	for _, h := range hubs {
		h.report(w)
	}
	fmt.Fprintln(w)
	l.Timeline.WriteTable(w)
}
