package configure

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/starlarkstruct"

	"edeploy/agent/internal/command"
	"edeploy/agent/internal/raidtool"
)

// hpFunctions are the methods of hpacucli.Cli: HP's RAID controllers, by their
// maker's program. The original types lines at the program's prompt; here each
// line is a call of its own.
var hpFunctions = map[string]function{
	"launch":            (*helperEnv).hpLaunch,
	"ctrl_all_show":     hpShow(controllers, "ctrl all show"),
	"ctrl_show":         hpShow(properties(raidtool.ControllerProperties), "ctrl %s show", "selector"),
	"ctrl_pd_all_show":  hpShow(groups(raidtool.PhysicalDrives), "ctrl %s pd all show", "selector"),
	"ctrl_pd_disk_show": hpShow(properties(raidtool.DriveProperties), "ctrl %s pd %s show", "selector", "disk"),
	"ctrl_ld_all_show":  hpShow(groups(raidtool.LogicalDrives), "ctrl %s ld all show", "selector"),
	"ctrl_ld_show":      hpShow(properties(raidtool.LogicalProperties), "ctrl %s ld %s show", "selector", "ldid"),
	"ctrl_delete":       (*helperEnv).hpDelete,
	"ctrl_create_ld":    (*helperEnv).hpCreate,
}

// hpModule is what the dialect sees: Cli(debug=False) has the methods. Commands
// are in the log with and without debug.
func hpModule(methods starlark.StringDict) starlark.StringDict {
	cli := starlarkstruct.FromStringDict(starlark.String("hpacucli.Cli"), methods)
	return starlark.StringDict{"Cli": starlark.NewBuiltin("hpacucli.Cli", func(_ *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		var debug bool
		return cli, starlark.UnpackArgs(b.Name(), args, kwargs, "debug?", &debug)
	})}
}

// hp gives the program a line of its prompt. What the program refuses is an
// error, whatever its exit status.
func (e *helperEnv) hp(format string, words ...any) (string, error) {
	line := fmt.Sprintf(format, words...)
	text, err := e.raidTool(raidtool.HP, strings.Fields(line)...)
	why, none := raidtool.Refusal(text)
	if why == "" || e.ctx.Err() != nil {
		return text, err
	}
	if err = fmt.Errorf("%s: %s", line, why); none {
		err = nothing{err}
	}
	return text, err
}

// launch() loads the kernel's module that the program talks through, and says
// whether there is a program. The other methods do without it.
func (e *helperEnv) hpLaunch(args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	if _, err := unpack[word](nil, args, kwargs); err != nil {
		return nil, err
	}
	if _, err := installed(raidtool.HP); err != nil {
		fmt.Fprintf(e.host.log(), "hpacucli: %v\n", err)
		return starlark.False, nil
	}
	c := command.Command{Argv: []string{"modprobe", "sg"}}
	fmt.Fprintf(e.host.log(), "+ %s\n", c)
	if _, err := e.host.Run(e.ctx, c); err != nil { // some kernels have it built in
		fmt.Fprintf(e.host.log(), "%v: left as it is\n", err)
	}
	return starlark.True, nil
}

// hpShow is a method that answers what the program says to a line.
func hpShow(read func(string) starlark.Value, line string, params ...string) function {
	return func(e *helperEnv, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		words, err := unpack[word](params, args, kwargs)
		if err != nil {
			return nil, err
		}
		text, err := e.hp(line, words...)
		return read(text), err
	}
}

// controllers is a list of (slot, model, serial).
func controllers(text string) starlark.Value {
	var list []starlark.Value
	for _, c := range raidtool.Controllers(text) {
		list = append(list, starlark.Tuple{starlark.MakeInt(c.Slot), starlark.String(c.Model), starlark.String(c.Serial)})
	}
	return starlark.NewList(list)
}

// groups makes a list of (title, [(id, type, size, status)]), of logical drives
// (title, [(id, size, level, status)]).
func groups(read func(string) []raidtool.Group) func(string) starlark.Value {
	return func(text string) starlark.Value {
		var list []starlark.Value
		for _, group := range read(text) {
			var drives []starlark.Value
			for _, d := range group.Drives {
				drives = append(drives, starlark.Tuple{starlark.String(d.ID), starlark.String(d.Facts[0]), starlark.String(d.Facts[1]), starlark.String(d.Facts[2])})
			}
			list = append(list, starlark.Tuple{starlark.String(group.Title), starlark.NewList(drives)})
		}
		return starlark.NewList(list)
	}
}

// properties makes a dictionary of texts.
func properties(read func(string) []raidtool.Property) func(string) starlark.Value {
	return func(text string) starlark.Value {
		return dictionary(read(text), func(s string) starlark.Value { return starlark.String(s) })
	}
}

// ctrl_delete(selector) deletes all arrays of a controller. True; where there are
// none, False in the dialect and Error in Python.
func (e *helperEnv) hpDelete(args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	words, err := unpack[word]([]string{"selector"}, args, kwargs)
	if err != nil {
		return nil, err
	}
	text, err := e.hp("ctrl %s ld all show detail", words...)
	if err != nil {
		return starlark.False, err
	}
	if err := e.watch.names(strings.Join(raidtool.Devices(text), "\n"), "ctrl_delete deletes it"); err != nil {
		return nil, err
	}
	_, err = e.hp("ctrl %s delete forced", words...)
	return starlark.Bool(err == nil), err
}

// ctrl_create_ld(selector, drives, raid) makes an array and answers the device of
// its logical drive: that of the only one which was not there before. The
// original takes the last one of the list, which is another where an array in
// the middle was deleted.
func (e *helperEnv) hpCreate(args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var selector, level word
	var drives texts
	if err := starlark.UnpackArgs("arguments", args, kwargs, "selector", &selector, "drives", &drives, "raid", &level); err != nil {
		return nil, err
	}
	before, err := e.hpLogical(selector)
	if err != nil {
		return nil, err
	}
	if _, err := e.hp("ctrl %s create type=ld drives=%s raid=%s", selector, strings.Join(drives, ","), level); err != nil {
		return nil, err
	}
	after, err := e.hpLogical(selector)
	if err != nil {
		return nil, err
	}
	added := slices.DeleteFunc(after, func(id string) bool { return slices.Contains(before, id) })
	if len(added) != 1 {
		return nil, fmt.Errorf("the controller has %d new logical drives %v, want 1", len(added), added)
	}
	text, err := e.hp("ctrl %s ld %s show", selector, added[0])
	if err != nil {
		return nil, err
	}
	device := raidtool.Value(raidtool.LogicalProperties(text), "Disk Name")
	if !strings.HasPrefix(device, "/dev/") {
		return nil, fmt.Errorf("the kernel does not know the new logical drive %s: its Disk Name is %q", added[0], device)
	}
	return starlark.String(device), e.watch.made(e.ctx, device)
}

// hpLogical are the numbers of a controller's logical drives.
func (e *helperEnv) hpLogical(selector word) ([]string, error) {
	text, err := e.hp("ctrl %s ld all show", selector)
	if errors.As(err, new(nothing)) {
		return nil, nil
	}
	var ids []string
	for _, group := range raidtool.LogicalDrives(text) {
		for _, d := range group.Drives {
			ids = append(ids, d.ID)
		}
	}
	return ids, err
}

// made takes a disk that a controller has just made as one that may be written to.
func (w *watch) made(ctx context.Context, device string) error {
	if w.guard == nil {
		return nil
	}
	drives, err := w.host.Disks.Look(ctx)
	if err := errors.Join(err, w.guard.Refresh()); err != nil {
		return fmt.Errorf("look for the new disk %s: %w", device, err)
	}
	found, err := w.host.Disks.Named(drives, device)
	if err != nil {
		return err
	}
	return w.use(found, "ctrl_create_ld made it")
}
