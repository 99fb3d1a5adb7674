package configure

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.starlark.net/resolve"
	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"edeploy/agent/dialect"
	"edeploy/server/wire"
)

// maxDataSteps bounds the evaluation of the variables, which are data.
const maxDataSteps = 1_000_000

func runStarlark(ctx context.Context, h Host, conf wire.Configuration, w *watch) error {
	name := scriptName(conf)
	vars, err := h.readVariables(conf.Var)
	if err != nil {
		return fmt.Errorf("%s: variables of the server: %w", name, err)
	}
	if err := w.reads(conf.Script, vars); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	thread := &starlark.Thread{
		Name:  name,
		Print: func(_ *starlark.Thread, msg string) { fmt.Fprintln(h.log(), msg) },
	}
	stop := context.AfterFunc(ctx, func() { thread.Cancel(context.Cause(ctx).Error()) })
	defer stop()
	files := &openFiles{}
	_, err = starlark.ExecFileOptions(dialect.Options, thread, name, dialect.Starlark(conf.Script), helpers(ctx, h, conf, vars, files, w))
	// What the script left open is complete only now.
	return errors.Join(located(name, conf.Script, vars.explain(err)), files.closeAll())
}

// readVariables evaluates the dictionary that the server sent, without any
// function to call, and adds what this machine knows.
func (h Host) readVariables(text string) (*variables, error) {
	if strings.TrimSpace(text) == "" {
		text = "{}"
	}
	thread := &starlark.Thread{Name: "var"}
	thread.SetMaxExecutionSteps(maxDataSteps)
	v, err := starlark.EvalOptions(&syntax.FileOptions{}, thread, "var", text, nil)
	if err != nil {
		return nil, err
	}
	d, ok := v.(*starlark.Dict)
	if !ok {
		return nil, fmt.Errorf("want a dictionary, not a %s", v.Type())
	}
	key := starlark.String(dialect.FirmwareKey)
	if _, ok, err := d.Get(key); err == nil && !ok && h.Firmware != "" {
		err = d.SetKey(key, starlark.String(h.Firmware))
		if err != nil {
			return nil, err
		}
	}
	return &variables{Dict: d}, nil
}

// variables is the dictionary var; a key that it does not have is answered
// with those it has.
type variables struct {
	*starlark.Dict
	missed error // about the last key that was looked for in vain
}

// Get serves var[key] and '%(key)s' % var.
func (v *variables) Get(key starlark.Value) (starlark.Value, bool, error) {
	value, found, err := v.Dict.Get(key)
	if err == nil && !found {
		v.missed = fmt.Errorf("var has no %s; it has: %s", python(key), strings.Join(v.names(), ", "))
		err = v.missed
	}
	return value, found, err
}

// explain puts the reason back that the operator % throws away.
func (v *variables) explain(err error) error {
	var eval *starlark.EvalError
	if v.missed == nil || !errors.As(err, &eval) {
		return err
	}
	key, ok := strings.CutPrefix(eval.Msg, "key not found: ")
	if !ok || !strings.HasPrefix(v.missed.Error(), "var has no '"+key+"';") {
		return err
	}
	return &reason{eval, v.missed}
}

// reason is an error of the interpreter with a better sentence.
type reason struct {
	*starlark.EvalError
	sentence error
}

func (r *reason) Unwrap() []error { return []error{r.EvalError, r.sentence} }

func (v *variables) names() []string {
	var names []string
	for _, key := range v.Keys() {
		if s, ok := starlark.AsString(key); ok {
			names = append(names, s)
		}
	}
	return names
}

// python writes a value as a Python script shows it: 'text'.
func python(v starlark.Value) string {
	if s, ok := starlark.AsString(v); ok {
		return "'" + s + "'"
	}
	return v.String()
}

// located turns an error of the interpreter into "NAME:LINE: cause".
func located(name, script string, err error) error {
	var (
		better   *reason
		eval     *starlark.EvalError
		parse    syntax.Error
		unknown  resolve.ErrorList
		line     int
		sentence error
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &better):
		line, sentence = scriptLine(name, better.CallStack), better.sentence
	case errors.As(err, &eval):
		line, sentence = scriptLine(name, eval.CallStack), eval.Unwrap()
		if sentence == nil {
			sentence = errors.New(eval.Msg)
		}
	case errors.As(err, &parse):
		line, sentence = int(parse.Pos.Line), errors.New(parse.Msg+hint(script, int(parse.Pos.Line)))
	case errors.As(err, &unknown) && len(unknown) > 0:
		line, sentence = int(unknown[0].Pos.Line), errors.New(unknown[0].Msg+hint(script, int(unknown[0].Pos.Line)))
	default:
		return fmt.Errorf("%s: %w", name, err)
	}
	return fmt.Errorf("%s:%d: %w", name, line, sentence)
}

// scriptLine is the innermost line of the script itself: builtins have none.
func scriptLine(name string, stack starlark.CallStack) int {
	for i := range len(stack) {
		if pos := stack.At(i).Pos; pos.Filename() == name && pos.Line > 0 {
			return int(pos.Line)
		}
	}
	return 1
}

// hint says what to do about statements that only real Python has.
func hint(script string, line int) string {
	lines := strings.Split(script, "\n")
	if line < 1 || line > len(lines) {
		return ""
	}
	word := strings.TrimSpace(lines[line-1])
	if i := strings.IndexAny(word, " :(."); i >= 0 {
		word = word[:i]
	}
	switch word {
	case "import", "from", "try", "except", "class", "with", "raise", "assert", "global", "yield", "exec",
		"os", "sys", "time", "re", "commands", "subprocess":
		return " (" + word + ` needs real Python: let the script start with "#!/usr/bin/python3")`
	case "print":
		return ` (write print(...), or let the script start with "#!/usr/bin/python3")`
	}
	return ""
}
