package configure

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.starlark.net/starlark"

	"edeploy/agent/dialect"
	"edeploy/agent/internal/command"
	"edeploy/agent/internal/drive"
	"edeploy/server/wire"
)

// watch keeps the disks that a script does not name from being written to while
// it runs, and says before its first command what becomes of each.
//
// In the dialect every command is read just before it runs, so that a name which
// the script has made up opens its disk then. Other interpreters' scripts are
// read once, with all variables of the profile.
type watch struct {
	host   Host
	guard  *drive.Guard // nil: nobody looks after the disks
	may    []drive.Drive
	was    map[string]wire.DiskID // of all disks, by name, before the script
	kernel string                 // the kernel's log, before the script
	policy string                 // of the script's wipe; "" is "yes"
	begun  bool                   // a command ran
}

// watch looks at the disks and makes them read-only.
func (h Host) watch(ctx context.Context) (*watch, error) {
	w := &watch{host: h, was: map[string]wire.DiskID{}}
	if h.Disks == nil {
		return w, nil
	}
	drives, err := h.Disks.Look(ctx)
	if err != nil {
		return nil, err
	}
	for _, d := range drives {
		w.was[d.Name] = d.ID()
	}
	// Without the log a failing disk is not named, and nothing else is lost.
	w.kernel, _ = h.Disks.KernelLog()
	if w.guard, err = h.Disks.Guard(drives); err != nil {
		w.note("warning: %v", err)
	}
	return w, nil
}

// lift makes all disks writeable again.
func (w *watch) lift() {
	if w.guard == nil {
		return
	}
	if err := w.guard.Lift(); err != nil {
		w.note("warning: %v", err)
	}
}

func (w *watch) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if w.host.Note == nil {
		fmt.Fprintln(w.host.log(), text)
		return
	}
	w.host.Note(text)
}

// names takes the disks that a text names as those that may be written to.
func (w *watch) names(text, why string) error {
	if w.guard == nil {
		return nil
	}
	named, err := w.host.Disks.Named(w.guard.Drives, text)
	if err != nil {
		return err
	}
	return w.use(named, why)
}

// use takes disks as those that may be written to; from the first command on
// they are.
func (w *watch) use(drives []drive.Drive, why string) error {
	for _, d := range drives {
		if slices.ContainsFunc(w.may, func(o drive.Drive) bool { return o.Name == d.Name && o.Serial == d.Serial }) {
			continue
		}
		w.may = append(w.may, d)
		if !w.begun {
			continue
		}
		if err := w.open(d); err != nil {
			return err
		}
		w.note("disk %s: %s; the script may write to it from now on: %s", d, d.Describe(), why)
	}
	return nil
}

// open refuses a disk with foreign data when the profile wants that.
func (w *watch) open(d drive.Drive) error {
	if err := w.allowed(d); err != nil {
		return err
	}
	return w.guard.Open(d)
}

// Foreign is an error: the script may write to disks with data that no installation
// of this machine has written, and the policy is not to overwrite it.
type Foreign struct {
	Policy wire.WipePolicy
	Disks  []wire.ForeignDisk
	begun  bool
}

func (f *Foreign) Error() string {
	nothing, which, it := ", nothing was changed", "disk", "it"
	if f.begun {
		nothing = ""
	}
	var disks, holds []string
	for _, d := range f.Disks {
		disks, holds = append(disks, d.Disk), append(holds, d.Holds)
	}
	if len(disks) > 1 {
		which, it = "disks", "them"
	}
	return fmt.Sprintf("wipe('%s'): the script may write to the %s %s, and what is on %s is not of an installation of this machine%s: %s",
		f.Policy, which, strings.Join(disks, ", "), it, nothing, strings.Join(holds, "; "))
}

// allowed refuses a disk that may be another one, and those with foreign data,
// all together.
func (w *watch) allowed(drives ...drive.Drive) error {
	for _, d := range drives {
		if d.Twin != "" {
			return fmt.Errorf("the disk %s may be another one: the kernel rejected a second NVMe disk that says it is the same (%s); "+
				"remove one, or give it an NQN of its own", d, d.Twin)
		}
	}
	foreign := &Foreign{Policy: w.host.Wipe.Stricter(wire.WipePolicy(w.policy)), begun: w.begun}
	for _, d := range drives {
		if !d.Blank() && !slices.Contains(w.host.Ours, d.ID()) && !slices.Contains(w.host.Ours, mark(d)) {
			foreign.Disks = append(foreign.Disks, wire.ForeignDisk{Disk: d.String(), Holds: d.Describe(), Mark: mark(d)})
		}
	}
	if foreign.Policy == wire.WipeYes || foreign.Disks == nil {
		return nil
	}
	return foreign
}

// mark tells what is on a disk from anything else, also where that has no
// identifier.
func mark(d drive.Drive) wire.DiskID {
	if id := d.ID(); wire.CheckWritten([]wire.DiskID{id}) == nil {
		return id
	}
	return wire.DiskID(fmt.Sprintf("content-%x", sha256.Sum256([]byte(d.Serial+d.Describe())))[:40])
}

// begin shows the plan, and opens the disks that are named so far.
func (w *watch) begin() error {
	if w.begun || w.guard == nil {
		return nil
	}
	for _, text := range w.host.Disks.Undriven() {
		w.note("%s", text)
	}
	for _, d := range w.guard.Drives {
		what := "read-only: no line of the script names it"
		switch {
		case d.WriteProtected:
			what = "nobody can write to it"
		case slices.ContainsFunc(w.may, func(o drive.Drive) bool { return o.Name == d.Name }):
			what = "the script may write to it"
		}
		w.note("disk %s: %s; %s", d, d.Describe(), what)
	}
	if err := w.allowed(w.may...); err != nil {
		return err
	}
	w.begun = true
	for _, d := range w.may {
		if err := w.guard.Open(d); err != nil {
			return err
		}
	}
	return nil
}

// command makes ready for a command of the dialect.
func (w *watch) command(text string) error {
	if w.guard == nil {
		return nil
	}
	if err := w.names(text, text); err != nil {
		return err
	}
	if drive.Computes(text) {
		if err := w.use(w.guard.Drives, "the command lists disks itself: "+text); err != nil {
			return err
		}
	}
	return w.begin()
}

// reads takes what a script of the dialect names as it stands.
func (w *watch) reads(script string, vars *variables) error {
	text, _ := dialect.Dedent(script)
	text = withoutComments(text)
	used := func(key string) bool {
		return strings.Contains(text, "'"+key+"'") || strings.Contains(text, `"`+key+`"`) || strings.Contains(text, "%("+key+")")
	}
	return w.names(text+"\n"+vars.texts(used), "the script names it")
}

// readsWhole takes what a script of another interpreter can name, and its wipe.
func (w *watch) readsWhole(program, script string, vars *variables) error {
	if w.guard == nil {
		return nil
	}
	text := comment.ReplaceAllString(script, "")
	if language(program) == "python" {
		text = withoutComments(script)
	}
	policy, err := writtenPolicy(text)
	if err != nil {
		return err
	}
	w.policy = policy
	if drive.ListsDisks(text) {
		w.note("warning: the script lists disks itself: none is kept from it")
		err = w.use(w.guard.Drives, "")
	} else {
		err = w.names(text+"\n"+vars.texts(func(string) bool { return true }), "")
	}
	return errors.Join(err, w.begin())
}

// withoutComments are the tokens of a script in the dialect or Python.
func withoutComments(script string) string {
	var b strings.Builder
	for _, token := range dialect.Tokens(script) {
		if token[0] != '#' {
			b.WriteString(token)
		}
	}
	return b.String()
}

// texts are the values of the variables with such keys.
func (v *variables) texts(with func(key string) bool) string {
	var values []string
	for _, item := range v.Items() {
		if key, ok := starlark.AsString(item[0]); ok && with(key) {
			values = append(values, shellValue(item[1]))
		}
	}
	return strings.Join(values, "\n")
}

var (
	wipeCall  = regexp.MustCompile(`\bwipe[ \t]*\(|(?m)^\s*wipe[ \t]+\S`)
	wipeWords = regexp.MustCompile(`\bwipe[ \t]*\(\s*["'](\w+)["']\s*\)|(?m)^\s*wipe[ \t]+["']?(\w+)["']?\s*$`)
)

// writtenPolicy is the policy that a script of another interpreter spells out:
// wipe('refuse') in Python, wipe refuse in a shell.
func writtenPolicy(text string) (string, error) {
	if !wipeCall.MatchString(text) {
		return "", nil
	}
	m := wipeWords.FindStringSubmatch(text)
	if m == nil {
		return "", errors.New("wipe: a script with an interpreter must spell the policy out, 'yes', 'ask' or 'refuse'")
	}
	return checkPolicy(m[1] + m[2])
}

func checkPolicy(policy string) (string, error) {
	if _, err := wire.ParseWipePolicy(policy); err != nil || policy == "" {
		return "", fmt.Errorf("wipe: policy %q: want 'yes', 'ask' or 'refuse'", policy)
	}
	return policy, nil
}

// log is what the kernel said since the script began.
func (w *watch) log() string {
	now, err := w.host.Disks.KernelLog()
	if err != nil {
		return ""
	}
	return drive.Since(w.kernel, now)
}

// explain adds the disks' part to the error of a command or of a whole script.
func (w *watch) explain(err error, text string) error {
	if err == nil || w.guard == nil {
		return err
	}
	var output []byte
	var failure *command.Failure
	if errors.As(err, &failure) {
		output = failure.Output
	}
	named, _ := w.host.Disks.Named(w.guard.Drives, text)
	if why := w.guard.Explain(named, string(output), w.log()); why != "" {
		return fmt.Errorf("%w; %s", err, why)
	}
	return err
}

// end looks at the disks after the script: one that lost what was written is an
// error. written are the identifiers of those that the script made anew, or
// that an installation of this machine had written before.
func (w *watch) end(ctx context.Context) (written []wire.DiskID, err error) {
	if w.guard == nil {
		return nil, nil
	}
	err = drive.WriteErrors(w.may, w.log())
	if !w.begun {
		return nil, err
	}
	after, lookErr := w.host.Disks.Look(ctx)
	for _, d := range after {
		id := d.ID()
		if wire.CheckWritten([]wire.DiskID{id}) == nil && slices.ContainsFunc(w.may, func(o drive.Drive) bool { return o.Name == d.Name }) &&
			(id != w.was[d.Name] || slices.Contains(w.host.Ours, id)) {
			written = append(written, id)
		}
	}
	return written, errors.Join(err, lookErr)
}
