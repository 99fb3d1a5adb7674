package configure

import (
	"fmt"
	"strconv"
	"strings"

	"go.starlark.net/starlark"

	"edeploy/agent/internal/command"
	"edeploy/agent/internal/raidtool"
)

// megaFunctions are the functions of megacli: LSI's and Dell's RAID controllers,
// by the program MegaCli. A controller's refusal is an answer, too, as in the
// original: ExitCode and no more. Arrays are made by run('megacli -CfgLdAdd ...').
var megaFunctions = map[string]function{
	"run_megacli":   megaRun(func(text string) starlark.Value { return starlark.String(text) }),
	"run_and_parse": megaRun(func(text string) starlark.Value { return megaProperties(text, nil) }),
	"adp_count":     megaShow(megaCount("ControllerCount"), "adpCount"),
	"adp_all_info":  megaShow(adapter, "adpallinfo -a%d", "ctrl"),
	"pd_get_num":    megaShow(megaCount("NumberOfPhysicalDrivesOnAdapter%d"), "PDGetNum -a%d", "ctrl"),
	"enc_info":      megaShow(enclosures, "EncInfo -a%d", "ctrl"),
	"pdinfo":        megaShow(megaProperties, "pdinfo -PhysDrv[%[2]d:%[3]d] -a%[1]d", "ctrl", "encl", "disk"),
	"ld_get_num":    megaShow(megaCount("NumberOfVirtualDrivesConfiguredOnAdapter%d"), "LDGetNum -a%d", "ctrl"),
	"ld_get_info":   megaShow(megaProperties, "LDInfo -L%[2]d -a%[1]d", "ctrl", "ldrv"),
}

// megacli is what MegaCli says to words, the first with or without its "-". Its
// exit status is often a count.
func (e *helperEnv) megacli(line string) (string, error) {
	text, err := e.raidTool(raidtool.MegaRAID, strings.Fields("-"+strings.TrimLeft(line, " -"))...)
	if command.ExitCode(err) >= 0 {
		err = nil
	}
	return text, err
}

// megaRun is a function that takes MegaCli's words as they are.
func megaRun(read func(string) starlark.Value) function {
	return func(e *helperEnv, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		words := make([]string, len(args)) // names of parameters that nobody can give
		for i := range words {
			words[i] = strconv.Itoa(i + 1)
		}
		values, err := unpack[word](words, args, kwargs)
		if err != nil {
			return nil, err
		}
		text, err := e.megacli(fmt.Sprintln(values...))
		return read(text), err
	}
}

// megaShow is a function of numbers that answers what MegaCli says to a line.
func megaShow(read func(text string, numbers []any) starlark.Value, line string, params ...string) function {
	return func(e *helperEnv, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		numbers, err := unpack[number](params, args, kwargs)
		if err != nil {
			return nil, err
		}
		text, err := e.megacli(fmt.Sprintf(line, numbers...))
		return read(text, numbers), err
	}
}

// megaProperties is a dictionary of texts and numbers.
func megaProperties(text string, _ []any) starlark.Value {
	return dictionary(raidtool.Properties(text), textOrNumber)
}

func textOrNumber(s string) starlark.Value {
	if n, err := strconv.Atoi(s); err == nil {
		return starlark.MakeInt(n)
	}
	return starlark.String(s)
}

// megaCount is the number behind a key; 0 where there is none.
func megaCount(key string) func(string, []any) starlark.Value {
	return func(text string, numbers []any) starlark.Value {
		n, err := strconv.Atoi(raidtool.Value(raidtool.Properties(text), fmt.Sprintf(key, numbers...)))
		if err != nil {
			n = 0
		}
		return starlark.MakeInt(n)
	}
}

// adapter is a controller's dictionary, in which two keys have lists.
func adapter(text string, _ []any) starlark.Value {
	return dictionary(raidtool.Properties(text), textOrNumber, "RaidLevelSupported", "SupportedDrives")
}

// enclosures is a list of dictionaries, with the number as Enclosure.
func enclosures(text string, _ []any) starlark.Value {
	var list []starlark.Value
	for _, part := range raidtool.Enclosures(text) {
		number := raidtool.Property{Key: "Enclosure", Value: strconv.Itoa(part.Number)}
		list = append(list, dictionary(append(part.Properties, number), textOrNumber))
	}
	return starlark.NewList(list)
}
