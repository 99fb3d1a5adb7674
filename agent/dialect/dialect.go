// Package dialect is the language of configuration scripts: Starlark, with
// what scripts written for Python 2 have besides, and the names that a script
// finds. The agent runs scripts in it, the server's lint reads them in it. It
// is a leaf: every room may import it.
package dialect

import (
	"strings"

	"go.starlark.net/syntax"
)

// Options are the statements that Python scripts have at their top level.
var Options = &syntax.FileOptions{
	TopLevelControl: true, GlobalReassign: true, While: true, Set: true, Recursion: true,
}

// Names are what a script finds (reference section 8.2).
var Names = []string{"var", "run", "set_role", "open", "config", "grub_options", "inject_facts", "raid1", "disks", "wipe", "ipmi", "hpacucli", "megacli", "sleep"}

// Modules are what the modules among them have (reference sections 8.3 and 8.4).
var Modules = map[string][]string{
	"ipmi":     {"setup_user", "setup_network", "restart_bmc"},
	"hpacucli": {"Cli"},
	"megacli":  {"adp_count", "adp_all_info", "pd_get_num", "enc_info", "pdinfo", "ld_get_num", "ld_get_info", "run_megacli", "run_and_parse"},
}

// Cli are the methods of what hpacucli.Cli() answers.
var Cli = []string{"launch", "ctrl_all_show", "ctrl_show", "ctrl_pd_all_show", "ctrl_pd_disk_show", "ctrl_ld_all_show", "ctrl_ld_show", "ctrl_delete", "ctrl_create_ld"}

// FirmwareKey is the variable that the agent adds to those of the server: how
// the machine starts its disk, "bios" or "uefi".
const FirmwareKey = "firmware"

// Starlark rewrites what Python 2 accepts and Starlark does not: a script that
// is indented as a whole, and octal numbers (0644). Line numbers stay.
func Starlark(script string) string {
	text, _ := Dedent(script)
	var out strings.Builder
	for _, token := range Tokens(text) {
		if IsOctal(token) {
			token = "0o" + token[1:]
		}
		out.WriteString(token)
	}
	return out.String()
}

// Dedent removes the indentation of the first statement from every line, when
// every line has it, as in a script that was copied out of a document. margin
// is the number of bytes that every line lost. Lines end with LF afterwards.
func Dedent(script string) (text string, margin int) {
	script = strings.ReplaceAll(script, "\r\n", "\n")
	lines := strings.SplitAfter(script, "\n")
	indent := firstIndent(lines)
	if indent == "" {
		return script, 0
	}
	for i, line := range lines {
		rest, ok := strings.CutPrefix(line, indent)
		if !ok && strings.TrimSpace(line) != "" {
			return script, 0
		}
		if ok {
			lines[i] = rest
		}
	}
	return strings.Join(lines, ""), len(indent)
}

// firstIndent is the white space before the first statement.
func firstIndent(lines []string) string {
	for _, line := range lines {
		if text := strings.TrimSpace(line); text != "" && text[0] != '#' {
			return line[:len(line)-len(strings.TrimLeft(line, " \t"))]
		}
	}
	return ""
}
