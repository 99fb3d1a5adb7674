package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"edeploy/agent/internal/bootguard"
	"edeploy/agent/internal/installed"
	"edeploy/agent/internal/leftover"
	"edeploy/agent/internal/transaction"
	"edeploy/server/wire"

	"github.com/spf13/cobra"
)

const upgradeHelp = `Make this machine VERSION of its role, as "edeploy test-upgrade VERSION" shows
it beforehand. "edeploy list" says which versions there are a way to.

  1. metadata/FROM/ROLE/VERSION of the server (RSERV) comes to
     /var/lib/edeploy/VERSION: exclude, add_only, and perhaps pre and post
  2. what is to change is found by comparing the disk with the new manifest;
     users and groups of both are merged, what is lost otherwise is said
  3. all new content is staged in /.edeploy, from the server (SERV) or from
     elsewhere on the disk, and checked; a server that goes away is waited for
  4. pre runs; when it fails, nothing has changed
  5. renames put everything in place; what they replace is kept
  6. post runs; when it fails, everything is put back at once
  7. SELinux labels are set where SELinux is on; conf and manifest say VERSION

The scripts run in /var/lib/edeploy/VERSION, with ROLE, FROM and TO set. What
they print goes to the console and to ` + wire.LogDir + `/upgrade-FROM-TO.log.
A post that exits with 100 has done well and asks for a reboot, which follows.

The server is told what becomes of it: "edeployctl machines" shows that. When it
does not answer, "edeploy report" tells it later.

Nothing is restarted but by post: at the end it is said which services and other
processes still run what was replaced, as "edeploy status" does later.

A machine that loses power meanwhile starts a recovery first (a copy of the
running kernel, started by GRUB) and is FROM again, or VERSION when that was
complete. "edeploy rollback" goes back later.

Exit status: 0 done (and the machine reboots, if post asked for it); 100 done,
and a reboot is needed; 1 not possible, or failed and put back; 2 it could not
be found out what to do: no conf, no server, an unreadable disk.`

const (
	upgradeName = "upgrade"
	noGuardHelp = "go on although GRUB cannot be told to start the recovery after a power cut"
)

type upgradeOptions struct {
	json, dryRun, noReboot, noGuard bool
}

func (p program) upgradeCommand(machine *installed.Machine) *cobra.Command {
	var o upgradeOptions
	c := &cobra.Command{
		Use:               upgradeName + " VERSION",
		Short:             "Make this machine another version of its role",
		Long:              upgradeHelp,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeVersions(machine),
		RunE: func(c *cobra.Command, args []string) error {
			if o.dryRun {
				return p.testUpgrade(c.Context(), *machine, args[0], o.json)
			}
			return p.upgrade(c.Context(), *machine, args[0], o)
		},
	}
	c.Flags().BoolVar(&o.json, "json", false, "print one JSON object; all else goes to the standard error output")
	c.Flags().BoolVar(&o.dryRun, "dry-run", false, "only tell what would change, as test-upgrade does")
	c.Flags().BoolVar(&o.noReboot, "no-reboot", false, "exit with 100 instead of rebooting")
	c.Flags().BoolVar(&o.noGuard, "no-guard", false, noGuardHelp)
	return c
}

// restarting are GRUB's files that post may rewrite; undoing restores them.
var restarting = []string{"boot/grub/grub.cfg", "boot/grub/grubenv", "boot/grub2/grub.cfg", "boot/grub2/grubenv"}

func (p program) upgrade(ctx context.Context, machine installed.Machine, to string, o upgradeOptions) error {
	conf, err := machine.Conf()
	if err != nil {
		return errCannotLook{err}
	}
	out := p.stdout
	if o.json {
		out = p.stderr
	}
	work := p.transaction(machine, o.noGuard)
	if err := atRest(work); err != nil {
		return err
	}
	state := machine.Path(path.Dir(wire.ConfPath))
	if err := sweep(filepath.Join(state, fetching+"*"), time.Now().Add(-time.Hour)); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(state, fetching)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r, err := p.prepare(ctx, machine, to, dir)
	if err != nil {
		return err
	}
	defer r.server.Close()
	if err := r.possible(); err != nil {
		return err
	}
	if err := r.place(state); err != nil {
		return err
	}
	log, err := openLog(machine.Path(wire.LogDir), conf.Image.Version, to)
	if err != nil {
		return err
	}
	defer log.Close()
	out = &both{out, log}
	if s := r.lossSentence(); s != "" {
		fmt.Fprintln(out, s)
	}
	for _, m := range r.merged {
		fmt.Fprintln(out, m)
	}
	fmt.Fprintln(out, totals(conf.Image, to, r.plan))
	steps := &steps{out: out, bar: bar{out: p.stderr, on: p.terminal, now: time.Now}}
	work.Progress = steps.show
	u, err := p.order(machine, r, out)
	if err != nil {
		return err
	}
	news := p.tells(ctx, machine, conf, wire.StepUpgrade, r.to)
	defer news.over()
	result, err := work.Upgrade(ctx, u)
	steps.end(err == nil)
	if errors.Is(err, transaction.ErrUndone) {
		writeLeftovers(out, p.leftovers(ctx, machine)) // of what the scripts started
	}
	if err != nil {
		err = p.afterwards(ctx, machine, work, conf.Image, err)
		fmt.Fprintln(log, err)
		news.failed(err)
		return err
	}
	news.done(outcome{Result: result, wire: r.server.Bytes()}.String())
	return p.upgraded(ctx, machine, o, out, outcome{Result: result, wire: r.server.Bytes()})
}

// fetching begins the name of metadata that are being fetched.
const fetching = ".metadata-"

// sweep removes what was left before a time by upgrades that were killed while
// they compared.
func sweep(pattern string, before time.Time) error {
	left, err := filepath.Glob(pattern)
	for _, dir := range left {
		if info, statErr := os.Lstat(dir); statErr == nil && info.ModTime().Before(before) {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}
	return err
}

// atRest refuses early what the transaction would refuse after all the
// comparing.
func atRest(work transaction.Machine) error {
	status, err := work.Status()
	switch {
	case err != nil:
		return errCannotLook{err}
	case status.Running != 0:
		return fmt.Errorf("%w: process %d", transaction.ErrBusy, status.Running)
	}
	return wholeVersion(status)
}

// wholeVersion is an error when the tree may be neither of two versions.
func wholeVersion(status transaction.Status) error {
	switch {
	case !status.Between():
		return nil
	case status.Running != 0:
		return fmt.Errorf("process %d is changing this machine from %s to %s: wait until it is done", status.Running, status.From, status.To.Version)
	}
	return fmt.Errorf("%s to %s: %w with edeploy recover", status.From, status.To.Version, errInterrupted)
}

// undisturbed looks at the disk, which must be one version meanwhile. Who may not
// see whether it is may not see all of the disk either, and look says so.
func undisturbed(work transaction.Machine, look func() error) error {
	before, err := work.Status()
	if errors.Is(err, fs.ErrPermission) {
		return look()
	}
	if err == nil {
		err = wholeVersion(before)
	}
	if err != nil {
		return errCannotLook{err}
	}
	looked := look()
	after, err := work.Status()
	if err == nil && !after.Changed.Equal(before.Changed) {
		err = errors.New("an upgrade went on meanwhile: look again when it is done")
	}
	if err != nil {
		return errCannotLook{err}
	}
	return looked
}

var errInterrupted = errors.New("this upgrade was interrupted: end it")

// place puts the metadata where the scripts find them.
func (r *preparation) place(state string) error {
	if err := os.Chmod(r.metadata, 0o755); err != nil {
		return err
	}
	at := filepath.Join(state, r.to.Version)
	if err := os.RemoveAll(at); err != nil {
		return err
	}
	if err := os.Rename(r.metadata, at); err != nil {
		return err
	}
	r.metadata = at
	return nil
}

// order is what the transaction is to do.
func (p program) order(machine installed.Machine, r *preparation, out io.Writer) (transaction.Upgrade, error) {
	own, err := r.own(machine)
	if err != nil {
		return transaction.Upgrade{}, err
	}
	dir := "/" + machine.Inside(path.Join(path.Dir(wire.ConfPath), r.to.Version))
	scripts := scripts{root: machine.Root, from: r.conf.Image, to: r.to.Version, dir: dir, out: out}
	preserve := make([]string, len(restarting))
	for i, name := range restarting {
		preserve[i] = machine.Inside(name)
	}
	return transaction.Upgrade{
		From: r.conf.Image, To: r.to, Plan: r.plan, Disk: r.disk, Target: r.target, Source: r.server.Tree(r.to),
		Own: own, Preserve: preserve, Pre: scripts.pre(), Post: scripts.post(),
	}, nil
}

// own are the files that say what the machine is (reference section 10.3 step 9).
func (r *preparation) own(machine installed.Machine) (map[string][]byte, error) {
	next := r.conf
	next.Image = r.to
	var text bytes.Buffer
	if _, err := r.target.WriteTo(&text); err != nil {
		return nil, err
	}
	own := map[string][]byte{machine.Inside(wire.ConfPath): []byte(next.Encode()), machine.Inside(wire.ManifestPath): text.Bytes()}
	left, err := os.ReadFile(filepath.Join(r.metadata, "exclude"))
	if err != nil {
		return nil, err
	}
	var rules strings.Builder
	for _, m := range r.merged {
		if !m.mine {
			own[m.Path] = []byte(m.text)
		}
		rules.WriteString("- /" + m.Path + "\n")
	}
	own[machine.Inside(installed.LeftPath)] = append([]byte(rules.String()), left...)
	if motd, ok := r.motd(machine); ok {
		own["etc/motd"] = motd
	}
	return own, nil
}

// motd is the message of the day with another version, when it names one and
// is not the tree's to change.
func (r *preparation) motd(machine installed.Machine) ([]byte, bool) {
	for _, o := range r.plan.Operations {
		if o.Path == "etc/motd" {
			return nil, false
		}
	}
	name := filepath.Join(machine.Root, "etc/motd")
	if info, err := os.Lstat(name); err != nil || !info.Mode().IsRegular() {
		return nil, false
	}
	text, err := os.ReadFile(name)
	old := "\nVersion " + r.conf.Image.Version + "\n"
	if err != nil || !strings.Contains("\n"+string(text), old) {
		return nil, false
	}
	return []byte(strings.Replace("\n"+string(text), old, "\nVersion "+r.to.Version+"\n", 1))[1:], true
}

// transaction is the machine with what belongs to it.
func (p program) transaction(machine installed.Machine, noGuard bool) transaction.Machine {
	log := warnings(p.stderr)
	work := transaction.Machine{Root: machine.Root, Log: log, Guard: bootguard.Guard{Root: machine.Root, Release: p.release, Log: log}}
	if noGuard {
		work.Guard = nil
	}
	return work
}

// afterwards completes the error of an upgrade or a rollback: what is the
// machine now?
func (p program) afterwards(ctx context.Context, machine installed.Machine, work transaction.Machine, was wire.ImageRef, cause error) error {
	status, err := work.Status()
	if err != nil {
		return cause
	}
	if status.Between() {
		return fmt.Errorf("%w: the machine is between two versions, end this with edeploy recover", cause)
	}
	if stopped(ctx, cause) {
		if !errors.Is(cause, transaction.ErrUndone) {
			return errNothingChanged
		}
		cause = fmt.Errorf("interrupted; %w", transaction.ErrUndone)
	}
	if conf, err := machine.Conf(); err == nil && conf.Image == was {
		return fmt.Errorf("%w; this machine is %s as before", cause, was)
	}
	return cause
}

// errNothingChanged is the error of a command that ^C or SIGTERM ended early.
var errNothingChanged = errors.New("interrupted; nothing changed")

// stopped tells whether an error is the end of its context.
func stopped(ctx context.Context, err error) bool {
	return ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx)))
}

// outcome is what an upgrade came to.
type outcome struct {
	transaction.Result
	wire      int64            // bytes of content and manifest, with all headers, in both directions
	leftovers *leftover.Report // nil: not looked for
}

func (o outcome) String() string {
	return fmt.Sprintf("Upgraded to %s in %s: %d new, %d replaced, %d attributes only, %d deleted; %d files of %.1f MB fetched (%.1f MB on the wire), %d of %.1f MB copied; the tree changed for %s",
		o.To, seconds(o.Total), o.Created, o.Replaced, o.Changed, o.Deleted,
		o.FetchedFiles, float64(o.FetchedBytes)/1e6, float64(o.wire)/1e6, o.CopiedFiles, float64(o.CopiedBytes)/1e6, seconds(o.Changing))
}

// seconds is a time as people compare it.
func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

// upgraded says what was done, and reboots if that is asked for.
func (p program) upgraded(ctx context.Context, machine installed.Machine, o upgradeOptions, out io.Writer, r outcome) error {
	fmt.Fprintln(out, r)
	reboot := r.Reboot && !o.noReboot && machine.Root == "/"
	if !reboot {
		r.leftovers = p.leftovers(ctx, machine)
		writeLeftovers(out, r.leftovers)
	}
	if o.json {
		if err := r.json(p.stdout, reboot); err != nil {
			return err
		}
	}
	switch {
	case reboot:
		fmt.Fprintln(out, "The machine reboots, as post asked for.")
		return restart(ctx)
	case r.Reboot:
		fmt.Fprintln(out, "A reboot is needed, says post.")
		return errRebootNeeded
	}
	return nil
}

func (o outcome) json(w io.Writer, rebooting bool) error {
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	return out.Encode(struct {
		From            wire.ImageRef `json:"from"`
		To              wire.ImageRef `json:"to"`
		Created         int           `json:"created"`
		Replaced        int           `json:"replaced"`
		Changed         int           `json:"changed"`
		Deleted         int           `json:"deleted"`
		FetchedFiles    int           `json:"fetched_files"`
		FetchedBytes    int64         `json:"fetched_bytes"`
		CopiedFiles     int           `json:"copied_files"`
		CopiedBytes     int64         `json:"copied_bytes"`
		WireBytes       int64         `json:"wire_bytes"`
		ChangingSeconds float64       `json:"changing_seconds"`
		TotalSeconds    float64       `json:"total_seconds"`
		RebootNeeded    bool          `json:"reboot_needed"`
		Rebooting       bool          `json:"rebooting"`

		Leftovers *leftover.Report `json:"leftovers,omitempty"`
	}{o.From, o.To, o.Created, o.Replaced, o.Changed, o.Deleted, o.FetchedFiles, o.FetchedBytes, o.CopiedFiles, o.CopiedBytes,
		o.wire, o.Changing.Seconds(), o.Total.Seconds(), o.Reboot, rebooting, o.leftovers})
}
