package drive

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Guard keeps the disks of a machine read-only, except those that were opened.
// What is read-only is a device node for programs: commands that talk to the
// drive itself (sg_format, hdparm --security-erase, a RAID controller's program)
// are not held back, nor are arrays and volumes that were made of the disk before.
type Guard struct {
	machine *Machine
	Drives  []Drive
	closed  map[string]bool // by name: made read-only here
}

// Guard makes all disks read-only that are not so by themselves. An error says
// which are not; the others are.
func (m *Machine) Guard(drives []Drive) (*Guard, error) {
	g := &Guard{machine: m, Drives: drives, closed: map[string]bool{}}
	var errs []error
	for _, d := range drives {
		if d.WriteProtected {
			continue
		}
		if err := m.SetReadOnly(d.Device(), true); err != nil {
			errs = append(errs, fmt.Errorf("%s cannot be made read-only: %w", d.Device(), err))
			continue
		}
		g.closed[d.Name] = true
	}
	return g, errors.Join(errs...)
}

// Open lets a disk be written to.
func (g *Guard) Open(d Drive) error {
	if !g.closed[d.Name] {
		return nil
	}
	if err := g.machine.SetReadOnly(d.Device(), false); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("make %s writeable: %w", d.Device(), err)
	}
	delete(g.closed, d.Name)
	return nil
}

// Lift opens all that are left. A disk that is gone needs nothing.
func (g *Guard) Lift() error {
	var errs []error
	for _, d := range g.Drives {
		errs = append(errs, g.Open(d))
	}
	return errors.Join(errs...)
}

// Refresh brings the list up to date: RAID controllers make disks while a script
// runs. New ones are writeable, as the script has just made them; one that can be
// removed it has not, somebody has plugged it in.
func (g *Guard) Refresh() error {
	now, err := g.machine.Read()
	if err != nil {
		return err
	}
	var errs []error
	for i, d := range now {
		known := slices.IndexFunc(g.Drives, func(o Drive) bool { return o.Name == d.Name && o.Serial == d.Serial && o.SizeBytes == d.SizeBytes })
		if known >= 0 {
			now[i] = g.Drives[known] // what it was before it was made read-only
			continue
		}
		delete(g.closed, d.Name)
		if d.Removable {
			added, err := g.machine.Guard(now[i : i+1])
			errs = append(errs, err)
			maps.Copy(g.closed, added.closed)
		}
	}
	g.Drives = now
	return errors.Join(errs...)
}

// Closed are the disks that are read-only because nobody opened them.
func (g *Guard) Closed() []Drive {
	return slices.DeleteFunc(slices.Clone(g.Drives), func(d Drive) bool { return !g.closed[d.Name] })
}

// refused is what programs say that were not allowed to write.
var refused = regexp.MustCompile(`(?i)read-?\s?only|not permitted|permission denied|write-?\s?protect|EROFS|EPERM`)

// Explain says why a command failed, as far as the disks are the reason: one
// that is write-protected, one that was kept read-only, one that the kernel says
// cannot be read or written. named are the disks that the command may have meant,
// output is what it said, log is the kernel's since it started; "": nothing is
// known.
func (g *Guard) Explain(named []Drive, output, log string) string {
	var reasons []string
	for _, d := range g.Drives {
		if line := ioError(d, log); line != "" {
			reasons = append(reasons, fmt.Sprintf("the disk %s fails: %s", d, line))
		}
	}
	if !refused.MatchString(output) {
		return strings.Join(reasons, "; ")
	}
	for _, d := range named {
		if d.WriteProtected {
			reasons = append(reasons, fmt.Sprintf("the disk %s cannot be written to: it or its controller is write-protected", d))
		}
	}
	if closed := g.Closed(); len(closed) > 0 && len(reasons) == 0 {
		reasons = append(reasons, "no line of the script names these disks, so they are read-only while it runs: "+list(closed))
	}
	return strings.Join(reasons, "; ")
}

// ioError is the first line of the kernel's log that says that the disk failed
// (blk_print_req_error and buffer_io_error of the kernel).
func ioError(d Drive, log string) string {
	if !strings.Contains(log, d.Name) {
		return ""
	}
	r, err := regexp.Compile(`(?m)^.*?(((Buffer )?I/O|critical [a-z ]+) error,? (on )?dev(ice)? ` + regexp.QuoteMeta(d.Name) + `(p?[0-9]+)?,.*)$`)
	if err != nil {
		return ""
	}
	if m := r.FindStringSubmatch(log); m != nil {
		return strings.TrimSpace(m[1])
	}
	return ""
}

// WriteErrors are the disks among these that lost what was written, as the
// kernel's log says. Programs do not always hear of it.
func WriteErrors(drives []Drive, log string) error {
	var writes strings.Builder
	for line := range strings.Lines(log) {
		if strings.Contains(line, "WRITE") || strings.Contains(line, "page write") {
			writes.WriteString(line)
		}
	}
	for _, d := range drives {
		if line := ioError(d, writes.String()); line != "" {
			return fmt.Errorf("the disk %s fails: %s", d, line)
		}
	}
	return nil
}

// Since is what the kernel's log has more than before.
func Since(before, now string) string {
	lines := strings.Split(strings.TrimRight(before, "\n"), "\n")
	last := lines[len(lines)-1]
	if last == "" {
		return now
	}
	if i := strings.LastIndex(now, last); i >= 0 {
		return now[i+len(last):]
	}
	return now // the ring has come around
}
