package configure

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/starlarkstruct"

	"edeploy/agent/internal/raidtool"
)

// function is a function of a module.
type function func(*helperEnv, starlark.Tuple, []starlark.Tuple) (starlark.Value, error)

// modules are the functions of the original's modules (reference sections 8.3
// and 8.4), in all languages. Those of hpacucli are methods of its Cli.
var modules = map[string]map[string]function{"ipmi": ipmiFunctions, "hpacucli": hpFunctions, "megacli": megaFunctions}

// call calls a function of a module. Errors begin with its name.
func (e *helperEnv) call(module, name string, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	f := modules[module][name]
	if f == nil {
		return nil, fmt.Errorf("there is no function %s.%s", module, name)
	}
	v, err := f(e, args, kwargs)
	if err != nil {
		err = fmt.Errorf("%s.%s: %w", module, name, err)
	}
	return v, err
}

// nothing is what a controller says of things that it has none of. The dialect,
// which cannot catch an error, gets a value instead: False, or an empty list.
type nothing struct{ error }

// module is a module as the dialect has it.
func (e *helperEnv) module(name string) starlark.Value {
	members := starlark.StringDict{}
	for f := range modules[name] {
		members[f] = starlark.NewBuiltin(name+"."+f, func(_ *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
			v, err := e.call(name, f, args, kwargs)
			if errors.As(err, new(nothing)) {
				err = nil
			}
			return v, err
		})
	}
	if name == "hpacucli" {
		members = hpModule(members)
	}
	return &starlarkstruct.Module{Name: name, Members: members}
}

// word is a number or a text: variables of a profile are either.
type word string

// Unpack is part of starlark.Unpacker.
func (w *word) Unpack(v starlark.Value) error {
	text, ok := starlark.AsString(v)
	if _, isInt := v.(starlark.Int); isInt {
		text, ok = v.String(), true
	}
	*w = word(text)
	if !ok {
		return fmt.Errorf("want a string or a number, not a %s", v.Type())
	}
	return nil
}

// number is a whole number, or a text that is one.
type number int

// Unpack is part of starlark.Unpacker.
func (n *number) Unpack(v starlark.Value) error {
	text := v.String()
	if s, ok := starlark.AsString(v); ok {
		text = strings.TrimSpace(s)
	}
	i, err := strconv.Atoi(text)
	if err != nil {
		return fmt.Errorf("want a whole number, not %v", v)
	}
	*n = number(i)
	return nil
}

// unpack are the arguments of a function whose parameters are all needed, and
// all of one kind.
func unpack[T any](params []string, args starlark.Tuple, kwargs []starlark.Tuple) ([]any, error) {
	got := make([]T, len(params))
	var pairs, values []any
	for i, param := range params {
		pairs = append(pairs, param, &got[i])
	}
	err := starlark.UnpackArgs("arguments", args, kwargs, pairs...)
	for _, v := range got {
		values = append(values, v)
	}
	return values, err
}

// dictionary has what lines of a program say; the values of some keys are lists
// with ", " between their texts.
func dictionary(lines []raidtool.Property, value func(string) starlark.Value, lists ...string) *starlark.Dict {
	d := starlark.NewDict(len(lines))
	for _, p := range lines {
		v := value(p.Value)
		if slices.Contains(lists, p.Key) {
			var list []starlark.Value
			for text := range strings.SplitSeq(p.Value, ", ") {
				list = append(list, starlark.String(text))
			}
			v = starlark.NewList(list)
		}
		_ = d.SetKey(starlark.String(p.Key), v) // fails for frozen dictionaries and keys without a hash
	}
	return d
}
