package configure

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.starlark.net/starlark"

	"edeploy/server/wire"
)

// helpers are the names that a script finds (reference section 8.2).
func helpers(ctx context.Context, h Host, conf wire.Configuration, vars *variables, files *openFiles, w *watch) starlark.StringDict {
	env := newHelperEnv(ctx, h, conf, w)
	env.files = files
	names := starlark.StringDict{"var": vars}
	for module := range modules {
		names[module] = env.module(module)
	}
	for name, f := range map[string]func(*helperEnv, starlark.Tuple, []starlark.Tuple) (starlark.Value, error){
		"run":          (*helperEnv).run,
		"set_role":     (*helperEnv).setRole,
		"open":         (*helperEnv).open,
		"config":       (*helperEnv).config,
		"grub_options": (*helperEnv).grubOptions,
		"inject_facts": (*helperEnv).injectFacts,
		"raid1":        (*helperEnv).raid1,
		"disks":        (*helperEnv).disks,
		"wipe":         (*helperEnv).wipe,
		"sleep":        (*helperEnv).sleep,
	} {
		names[name] = starlark.NewBuiltin(name, func(_ *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
			return f(env, args, kwargs)
		})
	}
	return names
}

type helperEnv struct {
	ctx     context.Context
	host    Host
	profile string
	files   *openFiles
	script  string
	watch   *watch
	early   bool           // the images that the script names were not looked for before it began: it says where from
	unasked *wire.ImageRef // named by set_role; whether it can be had is asked before the next command
}

func newHelperEnv(ctx context.Context, h Host, conf wire.Configuration, w *watch) *helperEnv {
	_, settled := h.source(conf.Script)
	return &helperEnv{ctx: ctx, host: h, profile: conf.Profile, script: conf.Script, watch: w, early: !settled}
}

// run(cmd) runs a shell command.
func (e *helperEnv) run(args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var cmd string
	if err := starlark.UnpackArgs("run", args, kwargs, "cmd", &cmd); err != nil {
		return nil, err
	}
	return starlark.None, e.shell(cmd)
}

// sleep(seconds) waits.
func (e *helperEnv) sleep(args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var value starlark.Value
	if err := starlark.UnpackArgs("sleep", args, kwargs, "seconds", &value); err != nil {
		return nil, err
	}
	seconds, ok := starlark.AsFloat(value)
	if !ok || seconds < 0 {
		return nil, fmt.Errorf("sleep: %v: want a number of seconds", value)
	}
	select {
	case <-time.After(time.Duration(seconds * float64(time.Second))):
		return starlark.None, nil
	case <-e.ctx.Done():
		return nil, context.Cause(e.ctx)
	}
}

// shell runs a command.
func (e *helperEnv) shell(cmd string) error {
	if err := e.ready(cmd); err != nil {
		return err
	}
	return e.watch.explain(e.host.run(e.ctx, cmd), cmd)
}

// ready says whether a command may run: the images can be had, and the disks
// that it names may be written to.
func (e *helperEnv) ready(cmd string) error {
	if err := e.ask(); err != nil {
		return err
	}
	return e.watch.command(cmd)
}

// set_role(role, version, disk) says what is installed and where it boots.
func (e *helperEnv) setRole(args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var role, version, disk string
	if err := starlark.UnpackArgs("set_role", args, kwargs, "role", &role, "version", &version, "disk", &disk); err != nil {
		return nil, err
	}
	image, err := e.host.setRole(e.profile, role, version, disk)
	e.unasked = &image
	return starlark.None, errors.Join(err, e.watch.names(disk, "set_role names it"))
}

// ask asks whether the role of the last set_role, and the roles that the script
// names, can be had, so that a command does not prepare a disk for nothing.
func (e *helperEnv) ask() error {
	args, settled := e.host.source(e.script)
	if e.host.Offered == nil || !settled {
		return nil
	}
	if e.early {
		e.early = false
		if err := e.host.checkNamed(e.ctx, e.script); err != nil {
			return err
		}
	}
	if e.unasked == nil {
		return nil
	}
	image := *e.unasked
	e.unasked = nil
	return e.host.Offered(e.ctx, args, image)
}

// open(name, mode='r') opens a file of the ramdisk.
func (e *helperEnv) open(args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	name, mode := "", "r"
	if err := starlark.UnpackArgs("open", args, kwargs, "name", &name, "mode?", &mode); err != nil {
		return nil, err
	}
	if writes := !strings.HasPrefix(mode, "r") || strings.Contains(mode, "+"); writes && strings.HasPrefix(name, "/dev/") {
		if err := e.watch.command(name); err != nil {
			return nil, err
		}
	}
	return e.openFile(name, mode)
}

// openFile keeps a nil *file from becoming a value.
func (e *helperEnv) openFile(name, mode string) (starlark.Value, error) {
	f, err := e.files.open(e.host.path(name), mode)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// config(name, mode='w', basedir='/post_rsync', fmod=0644, uid=0, gid=0) opens
// a file that will be laid over the tree, and makes its directories.
func (e *helperEnv) config(args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	name, mode, basedir := "", "w", OverlayDir
	fmod, uid, gid := 0o644, 0, 0
	for _, kw := range kwargs {
		if kw[0] == starlark.String("fmode") { // both spellings are in use
			kw[0] = starlark.String("fmod")
		}
	}
	if err := starlark.UnpackArgs("config", args, kwargs, "name", &name, "mode?", &mode, "basedir?", &basedir,
		"fmod?", &fmod, "uid?", &uid, "gid?", &gid); err != nil {
		return nil, err
	}
	if !strings.HasPrefix(name, "/") {
		return nil, fmt.Errorf("config: name %q does not start with /", name)
	}
	path := e.host.path(basedir + name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := e.openFile(basedir+name, mode)
	if err != nil {
		return nil, err
	}
	// Chown first: it clears setuid and setgid bits.
	if err := os.Lchown(path, uid, gid); err != nil && os.Getuid() == 0 {
		return nil, err
	}
	return f, os.Chmod(path, unixMode(fmod))
}

// unixMode turns the bits of chmod(2) into Go's.
func unixMode(bits int) os.FileMode {
	mode := os.FileMode(bits & 0o777)
	for bit, flag := range map[int]os.FileMode{0o4000: os.ModeSetuid, 0o2000: os.ModeSetgid, 0o1000: os.ModeSticky} {
		if bits&bit != 0 {
			mode |= flag
		}
	}
	return mode
}

// grub_options(text) sets kernel parameters of the installed system.
func (e *helperEnv) grubOptions(args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var text string
	if err := starlark.UnpackArgs("grub_options", args, kwargs, "text", &text); err != nil {
		return nil, err
	}
	return starlark.None, os.WriteFile(e.host.path(grubOptionsPath), []byte(text+"\n"), 0o644)
}

// inject_facts(vars, basedir='/post_rsync', prefix='hw_') leaves the variables
// for Facter. Values are quoted: a MAC address of decimal digits would else be
// a sexagesimal number in YAML 1.1.
func (e *helperEnv) injectFacts(args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var facts starlark.IterableMapping
	basedir, prefix := OverlayDir, "hw_"
	if err := starlark.UnpackArgs("inject_facts", args, kwargs, "vars", &facts, "basedir?", &basedir, "prefix?", &prefix); err != nil {
		return nil, err
	}
	var text strings.Builder
	text.WriteString("---\n")
	for _, item := range facts.Items() {
		key, ok := starlark.AsString(item[0])
		if !ok {
			return nil, fmt.Errorf("inject_facts: key %v is not a string", item[0])
		}
		value := item[1].String()
		if s, ok := starlark.AsString(item[1]); ok {
			value = strconv.Quote(s)
		}
		fmt.Fprintf(&text, "%s%s: %s\n", prefix, key, value)
	}
	path := e.host.path(basedir + "/etc/facter/facts.d/edeploy.yaml")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	return starlark.None, os.WriteFile(path, []byte(text.String()), 0o644)
}
