package configure

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"go.starlark.net/starlark"

	"edeploy/agent/dialect"
	"edeploy/agent/internal/command"
	"edeploy/server/wire"
)

// The preludes give scripts of real interpreters the same helpers; they run
// the script named by EDEPLOY_SCRIPT.
var (
	//go:embed prelude.py
	pythonPrelude string
	//go:embed prelude.sh
	shellPrelude string
)

// runInterpreter runs a script that starts with "#!".
func runInterpreter(ctx context.Context, h Host, conf wire.Configuration, w *watch) error {
	name := scriptName(conf)
	vars, err := h.readVariables(conf.Var)
	if err != nil {
		return fmt.Errorf("%s: variables of the server: %w", name, err)
	}
	argv, err := interpreter(conf.Interpreter())
	if err != nil {
		return fmt.Errorf("%s:1: #!%s: %w", name, conf.Interpreter(), err)
	}
	if err := w.readsWhole(argv[0], conf.Script, vars); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	files, err := h.writeScript(argv[0], conf, vars)
	if err != nil {
		return fmt.Errorf("prepare %s: %w", name, err)
	}
	defer os.RemoveAll(files.dir)
	if asked := dialect.Program(conf.Script); path.Base(asked) != path.Base(argv[0]) {
		fmt.Fprintf(h.log(), "there is no %s: the script runs with %s\n", asked, argv[0])
	}
	_, err = h.Run(ctx, command.Command{
		Argv:  append(argv, files.start),
		Shown: path.Base(argv[0]),
		Env: []string{
			"EDEPLOY_ROOT=" + strings.TrimSuffix(h.path("/"), "/"), "EDEPLOY_PROFILE=" + conf.Profile,
			"EDEPLOY_SCRIPT=" + files.script, "EDEPLOY_NAME=" + name,
		},
	})
	if err != nil {
		return fmt.Errorf("%s: %w", name, w.explain(err, conf.Script+conf.Var))
	}
	return nil
}

// python3 is the program of Python 3, and the add-on that has it.
const python3 = "python3"

// isPython tells a program that Python 3 stands for: all Pythons but version 2.
func isPython(program string) bool {
	name := path.Base(program)
	return strings.HasPrefix(name, "python") && !strings.HasPrefix(name, "python2")
}

// fetchInterpreter brings Python for a script that names it, where it is not
// there yet.
func (h Host) fetchInterpreter(ctx context.Context, conf wire.Configuration) error {
	if _, err := interpreter(conf.Interpreter()); err == nil || h.Addon == nil || !isPython(dialect.Program(conf.Script)) {
		return nil // what is missing is said when the script starts
	}
	return h.Addon(ctx, python3)
}

// interpreter finds the program of a "#!" line, through env when it says so.
func interpreter(line string) ([]string, error) {
	argv := strings.Fields(line)
	if len(argv) > 1 && path.Base(argv[0]) == "env" {
		argv = argv[1:]
	}
	if len(argv) == 0 {
		return nil, errors.New("names no program")
	}
	program, err := exec.LookPath(argv[0])
	if err != nil && isPython(argv[0]) {
		program, err = exec.LookPath(python3)
	}
	if err != nil {
		return nil, fmt.Errorf(`this initrd has no %s: name an add-on that has it in [BOOT] ADDONS%s`, argv[0], otherwise(argv[0]))
	}
	argv[0] = program
	return argv, nil
}

// otherwise is what else a script can do that names a program that is not there.
func otherwise(program string) string {
	if strings.HasPrefix(path.Base(program), "python") {
		return ", or let the script start with \"#!/usr/bin/python3\", which the appliance has; edeployctl lint says what is of Python 2 only"
	}
	return `; a script without the "#!" line runs in the built-in dialect`
}

type scriptFiles struct {
	dir    string
	script string // the script, unchanged
	start  string // what the interpreter is given: the prelude, or the script itself
}

// writeScript writes the script and the prelude of its language.
func (h Host) writeScript(program string, conf wire.Configuration, vars *variables) (scriptFiles, error) {
	if err := os.MkdirAll(os.TempDir(), 0o777); err != nil {
		return scriptFiles{}, err
	}
	dir, err := os.MkdirTemp("", "configure")
	if err != nil {
		return scriptFiles{}, err
	}
	f := scriptFiles{dir: dir, script: filepath.Join(dir, "script"), start: filepath.Join(dir, "prelude")}
	var prelude string
	switch language(program) {
	case "python":
		// The variables were evaluated as data above: they are a literal.
		prelude = fmt.Sprintf("var = %s\nvar.setdefault('%s', '%s')\n", cmp.Or(strings.TrimSpace(conf.Var), "{}"), dialect.FirmwareKey, h.Firmware) + pythonPrelude
	case "sh":
		prelude = shellVariables(vars) + shellPrelude
	default:
		f.start = f.script
	}
	err = os.WriteFile(f.script, []byte(conf.Script), 0o700)
	if prelude != "" {
		err = errors.Join(err, os.WriteFile(f.start, []byte(prelude), 0o700))
	}
	return f, err
}

func language(program string) string {
	switch base := path.Base(program); {
	case strings.HasPrefix(base, "python"):
		return "python"
	case base == "sh" || base == "bash" || base == "dash" || base == "ash" || base == "ksh":
		return "sh"
	}
	return ""
}

// shellVariables writes the variables as assignments: $disk. Characters that a
// name cannot hold become "_"; lists are joined by blanks; names that the
// shell itself obeys are left out.
func shellVariables(vars *variables) string {
	var b strings.Builder
	for _, item := range vars.Items() {
		key, ok := starlark.AsString(item[0])
		if !ok || key == "" {
			continue
		}
		name := strings.Map(func(r rune) rune {
			if r < 0x80 && dialect.WordByte(byte(r)) {
				return r
			}
			return '_'
		}, key)
		switch {
		case name[0] >= '0' && name[0] <= '9', name == "IFS", name == "PATH", name == "ENV", name == "BASH_ENV", name == "LD_PRELOAD":
			continue
		}
		fmt.Fprintf(&b, "%s='%s'\n", name, strings.ReplaceAll(shellValue(item[1]), "'", `'\''`))
	}
	return b.String()
}

func shellValue(v starlark.Value) string {
	if s, ok := starlark.AsString(v); ok {
		return s
	}
	seq, ok := v.(starlark.Iterable)
	if !ok {
		return v.String()
	}
	var words []string
	for item := range starlark.Elements(seq) {
		words = append(words, shellValue(item))
	}
	return strings.Join(words, " ")
}
