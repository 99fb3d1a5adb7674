// Package configure runs the configuration script of a profile: NAME.configure,
// which prepares the disks, queues files for the installed system and names
// the role (reference section 8).
//
// Scripts are written in Starlark with Python's top-level statements, or, when
// they start with "#!", in the language of a program that the initrd carries.
// Both see the same helpers and leave the same files:
//
//	/vars           ROLE VERS DISK PROFILE, and what a script adds (kernel parameters: METADATA_URL, HSERV ...)
//	/grub_options   kernel parameters of the installed system
//	/post_rsync     files that are laid over the tree
//	/interfaces /fstab /modules   the seed's names for three of them
//	/configure      the server's answer, for the log
package configure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"edeploy/agent/dialect"
	"edeploy/agent/internal/command"
	"edeploy/agent/internal/drive"
	"edeploy/server/wire"
)

// Host is the machine a script acts on.
type Host struct {
	Root string         // the directory that stands for "/" in open and config; "" is "/"
	Run  command.Runner // runs the script's commands
	Log  io.Writer      // takes what the script prints; nil is silence
	Args wire.BootArgs  // OS and OS_VER replace the role and version of set_role

	Limit time.Duration // how long the script may take; 0: as long as it wants

	// Firmware is how the machine starts its disk, "bios" or "uefi": the
	// script's var['firmware'], unless the profile has a variable of this name.
	Firmware string

	// Offered says why an image cannot be had from where the arguments say. It
	// is asked before the script's first command about the images that the
	// script names, and before a command that follows set_role. Nil: all can be had.
	Offered func(context.Context, wire.BootArgs, wire.ImageRef) error

	// Addon lays an add-on over the ramdisk. It is asked before the script's first
	// command for the one that has its interpreter. Nil: there are none.
	Addon func(ctx context.Context, name string) error

	Disks *drive.Machine  // nil: disks are not chosen, and nobody keeps the others from being written to
	Ours  []wire.DiskID   // of the disks that installations of this machine wrote, or that the operator lets pass
	Wipe  wire.WipePolicy // for data on all others; the script may be stricter
	Note  func(string)    // takes a sentence for the machine's history; nil: it goes to Log
}

// Result is what a script decided.
type Result struct {
	Image       wire.ImageRef // the role to install
	Disk        string        // where the boot loader goes, with /dev/
	GrubOptions string        // kernel parameters of the installed system
	Args        wire.BootArgs // Host.Args, with what the script left in /vars
	Written     []wire.DiskID // of the disks that the script made anew or used again; also when it failed
	Closed      []drive.Drive // that were read-only meanwhile
}

// Places of the files that a script leaves.
const (
	varsPath        = "/vars"
	grubOptionsPath = "/grub_options"
	configurePath   = "/configure"
	OverlayDir      = "/post_rsync"
)

// leftovers of an earlier run would decide about this one.
var leftovers = []string{varsPath, grubOptionsPath, OverlayDir, "/interfaces", "/fstab", "/modules"}

// readyMade are directories that scripts find, innermost first. Those that
// they leave empty are not meant for the installed system.
var readyMade = []string{OverlayDir + "/etc/init", OverlayDir + "/etc/network", OverlayDir + "/etc/default", OverlayDir + "/etc"}

// path is where a path of the script is: below Root, whatever it holds.
func (h Host) path(name string) string {
	return filepath.Join("/", h.Root, filepath.Join("/", name))
}

func (h Host) log() io.Writer {
	if h.Log == nil {
		return io.Discard
	}
	return h.Log
}

// Run runs the script of a configuration. Its error starts with the script's
// name and, as far as it is known, the line.
func Run(ctx context.Context, h Host, conf wire.Configuration) (Result, error) {
	if err := h.prepare(conf); err != nil {
		return Result{}, fmt.Errorf("prepare %s: %w", scriptName(conf), err)
	}
	if err := h.checkFirmware(conf.Script); err != nil {
		return Result{}, fmt.Errorf("%s: %w", scriptName(conf), err)
	}
	if err := h.checkNamed(ctx, conf.Script); err != nil {
		return Result{}, fmt.Errorf("%s: %w", scriptName(conf), err)
	}
	if err := h.fetchInterpreter(ctx, conf); err != nil {
		return Result{}, fmt.Errorf("%s:1: #!%s: %w", scriptName(conf), conf.Interpreter(), err)
	}
	written, closed, err := h.runWatched(ctx, conf)
	if err != nil {
		return Result{Written: written}, err
	}
	for _, dir := range readyMade {
		_ = os.Remove(h.path(dir)) // fails when something is in it
	}
	res, err := h.result()
	res.Written, res.Closed = written, closed
	if err != nil {
		return res, fmt.Errorf("%s: %w", scriptName(conf), err)
	}
	return res, nil
}

// runWatched runs the script while the disks are looked after.
func (h Host) runWatched(ctx context.Context, conf wire.Configuration) (written []wire.DiskID, closed []drive.Drive, err error) {
	w, err := h.watch(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("prepare %s: %w", scriptName(conf), err)
	}
	defer w.lift()
	if h.Limit > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, h.Limit, fmt.Errorf("the script has run for %s, which is its limit (kernel parameter SCRIPT_MINUTES)", h.Limit))
		defer stop()
	}
	run := runStarlark
	if conf.Interpreter() != "" {
		run = runInterpreter
	}
	if language(dialect.Program(conf.Script)) == "python" {
		h.Run = h.serving(conf, w)
	}
	err = run(ctx, h, conf, w)
	if w.guard != nil {
		closed = w.guard.Closed()
	}
	written, diskErr := w.end(context.WithoutCancel(ctx))
	if err == nil && diskErr != nil {
		err = fmt.Errorf("%s: %w", scriptName(conf), diskErr)
	}
	return written, closed, err
}

func scriptName(conf wire.Configuration) string { return conf.Profile + ".configure" }

// prepare makes the directories of reference section 2.5 step 16 and removes
// what an earlier run left.
func (h Host) prepare(conf wire.Configuration) error {
	for _, name := range leftovers {
		if err := os.RemoveAll(h.path(name)); err != nil {
			return err
		}
	}
	for _, dir := range append(readyMade, "/chroot") {
		if err := os.MkdirAll(h.path(dir), 0o755); err != nil {
			return err
		}
	}
	// The script may hold passwords.
	return os.WriteFile(h.path(configurePath), []byte(conf.Encode()), 0o600)
}

// result reads what the script left.
func (h Host) result() (Result, error) {
	vars, err := h.readVars()
	if err != nil {
		return Result{}, err
	}
	if vars["ROLE"] == "" || vars["VERS"] == "" {
		return Result{}, errors.New("the script ended without set_role(role, version, disk)")
	}
	grub, err := os.ReadFile(h.path(grubOptionsPath))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Result{}, err
	}
	res := Result{
		Disk:        vars["DISK"],
		GrubOptions: strings.Join(strings.Fields(string(grub)), " "),
	}
	if res.Args, err = h.Args.With(vars); err != nil {
		return res, fmt.Errorf("%s: %w", varsPath, err)
	}
	res.Image, res.Disk, err = h.role(vars["ROLE"], vars["VERS"], vars["DISK"])
	return res, err
}

// readVars reads the assignments in /vars as data; the last of a name wins.
func (h Host) readVars() (map[string]string, error) {
	text, err := os.ReadFile(h.path(varsPath))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	vars := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			vars[name] = strings.Trim(value, `'"`)
		}
	}
	return vars, nil
}

// role applies OS and OS_VER, checks the names, and completes the disk.
func (h Host) role(role, version, disk string) (wire.ImageRef, string, error) {
	if h.Args.OS != "" {
		role = h.Args.OS
	}
	if h.Args.OSVer != "" {
		version = h.Args.OSVer
	}
	ref, err := wire.NewImageRef(role, version)
	if err != nil {
		return ref, disk, fmt.Errorf("set_role: %w", err)
	}
	switch {
	case disk == "" || strings.ContainsAny(disk, " \t\n'\"$`\\;"):
		return ref, disk, fmt.Errorf("set_role: disk %q is not the name of a disk", disk)
	case !strings.HasPrefix(disk, "/dev/"):
		disk = "/dev/" + disk
	}
	return ref, disk, nil
}

// setRole is the helper set_role: it appends to /vars, so the last call wins.
func (h Host) setRole(profile, role, version, disk string) (wire.ImageRef, error) {
	ref, disk, err := h.role(role, version, disk)
	if err != nil {
		return ref, err
	}
	f, err := os.OpenFile(h.path(varsPath), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return ref, err
	}
	_, err = fmt.Fprintf(f, "ROLE=%s\nVERS=%s\nDISK=%s\nPROFILE=%s\n", ref.Role, ref.Version, disk, profile)
	return ref, errors.Join(err, f.Close())
}

// run is the helper run: a failing command is an error that names it.
func (h Host) run(ctx context.Context, text string) error {
	fmt.Fprintf(h.log(), "+ %s\n", text)
	_, err := h.Run(ctx, command.Shell(text))
	return err
}
