package wire

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Markers of the server's answer, each at the start of a line.
const (
	profileMarker = "#EDEPLOY_PROFILE = "
	disksMarker   = "#EDEPLOY_DISKS = "
	wipeMarker    = "#EDEPLOY_WIPE = "
	scriptMarker  = "#EDEPLOY_SCRIPT = "
	errorMarker   = "#EDEPLOY_ERROR"
)

// Configuration is the server's answer to an upload (reference section 4.4):
// the matched profile, its variables, and the configuration script, which the
// agent runs.
type Configuration struct {
	Profile string     // name of the matched profile
	Disks   []DiskID   // that earlier installations of this machine wrote, or that the operator lets pass
	Wipe    WipePolicy // for all others; the script may be stricter. "" is WipeYes
	Var     string     // the variables: one dictionary in Python syntax
	Script  string     // text of NAME.configure, unchanged
}

// Encode writes the answer as one script:
//
//	#EDEPLOY_PROFILE = NAME
//	#EDEPLOY_DISKS = ID ID      (where there are any)
//	#EDEPLOY_WIPE = ask         (where it is not yes)
//	var = {...}
//	#EDEPLOY_SCRIPT = NAME.configure
//	...
func (c Configuration) Encode() string {
	disks := ""
	for _, d := range c.Disks {
		disks += " " + string(d)
	}
	if disks != "" {
		disks = "\n" + strings.TrimRight(disksMarker, " ") + disks
	}
	if c.Wipe != "" && c.Wipe != WipeYes {
		disks += "\n" + wipeMarker + string(c.Wipe)
	}
	return profileMarker + c.Profile + disks + "\nvar = " + c.Var + "\n" +
		scriptMarker + c.Profile + ".configure\n" + c.Script
}

// ParseConfiguration reads an answer. One of an original eDeploy server, which
// has no script marker, comes back with its whole text as Script.
func ParseConfiguration(answer string) (Configuration, error) {
	var c Configuration
	for line := range strings.Lines(answer) {
		if name, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), strings.TrimRight(profileMarker, " ")); ok {
			c.Profile = strings.TrimSpace(name)
			break
		}
	}
	if c.Profile == "" {
		return c, fmt.Errorf("answer of the server names no profile (no line %q)", strings.TrimSpace(profileMarker))
	}
	c.Script = answer
	head, tail, ok := strings.Cut(answer, "\n"+scriptMarker)
	if !ok {
		return c, nil
	}
	_, c.Script, _ = strings.Cut(tail, "\n")
	_, c.Var, ok = strings.Cut(head, "\nvar = ")
	if !ok {
		return c, fmt.Errorf("answer of the server for profile %s has no variables", c.Profile)
	}
	before, _, _ := strings.Cut(head, "\nvar = ")
	if _, disks, ok := strings.Cut(before, "\n"+disksMarker); ok {
		line, _, _ := strings.Cut(disks, "\n")
		for _, id := range strings.Fields(line) {
			c.Disks = append(c.Disks, DiskID(id))
		}
	}
	if _, text, ok := strings.Cut(before, "\n"+wipeMarker); ok {
		line, _, _ := strings.Cut(text, "\n")
		policy, err := ParseWipePolicy(line)
		if err != nil { // one of a newer server: nothing is overwritten
			policy = WipeRefuse
		}
		c.Wipe = policy
	}
	return c, nil
}

// Interpreter is the argument of the script's "#!" line, "" when it has none
// and is written in the built-in Python dialect.
func (c Configuration) Interpreter() string {
	line, _, _ := strings.Cut(c.Script, "\n")
	program, ok := strings.CutPrefix(line, "#!")
	if !ok {
		return ""
	}
	return strings.TrimSpace(program)
}

// Refusal is the body of an answer that carries no configuration: a shell
// script that prints the reason and exits 1, as the original sends it. The
// HTTP status says the kind.
func Refusal(message string) string {
	var b strings.Builder
	b.WriteString("#!/bin/sh\n" + errorMarker + "\n")
	for line := range strings.Lines(message) {
		b.WriteString("echo '" + strings.ReplaceAll(strings.TrimRight(line, "\r\n"), "'", `'\''`) + "' >&2\n")
	}
	b.WriteString("exit 1\n")
	return b.String()
}

// ParseRefusal reads the message out of a Refusal, or out of the JSON that the
// API answers with; any other text is its own message, shortened.
func ParseRefusal(body string) string {
	var plain struct{ Error string }
	if json.Unmarshal([]byte(body), &plain) == nil && plain.Error != "" {
		return plain.Error
	}
	if !strings.Contains(body, "\n"+errorMarker+"\n") {
		return clip([]byte(strings.TrimSpace(body)))
	}
	var message []string
	for line := range strings.Lines(body) {
		quoted, ok := strings.CutPrefix(line, "echo '")
		quoted, end := strings.CutSuffix(strings.TrimRight(quoted, "\n"), "' >&2")
		if ok && end {
			message = append(message, strings.ReplaceAll(quoted, `'\''`, "'"))
		}
	}
	return strings.Join(message, "\n")
}

// ScriptType is the content type of every answer of upload.py, also of its
// refusals (reference section 4.3).
const ScriptType = "text/x-python"
