// Package ipxe writes the scripts that iPXE runs on a machine.
//
// Every script ends in one of three ways: the machine has booted something,
// iPXE gives control back to the firmware, or iPXE waits and asks the server
// again. None ends in iPXE's prompt, where a machine would stay for ever.
package ipxe

import (
	"fmt"
	"strings"
	"text/template"

	"edeploy/server/wire"
)

// Script says what one machine boots.
type Script struct {
	Machine string          // who the machine is, for its console
	Action  wire.BootAction // what it boots
	Why     string          // for hold: why it waits; "" when an operator said so
	Again   string          // URL of this script, to ask again

	Kernel, Initrd string // URLs; for actions that boot the agent
	Args           string // the kernel's command line; for the same

	Disks []string // URLs of the programs that start the installed disks, in their order; for local, none when they are not known
}

// Names of the two files inside iPXE; "initrd=" on the kernel's command line
// is how a kernel that was started by UEFI finds the initrd.
const (
	kernelName = "vmlinuz"
	initrdName = "initrd.pxe"
)

// templates are the scripts by action. "||" in front of goto is iPXE's "or
// else": the command before it failed. --replace keeps a machine that asks
// all night from nesting scripts until memory ends.
//
// Local boot: a program finds an installed disk (package bootdisk), one for
// each platform. That for BIOS does not come back; that for UEFI fails when its
// disk is not there, and the next one is tried: another disk of the array. Without
// it a BIOS machine tries the drives in the BIOS's order. "sanboot" starts a boot
// sector, without describing a SAN disk to it, and fails where there is none;
// exit, as the last chance, lets the BIOS go on with the next device of its own
// list.
// UEFI has no drive numbers: there the failing exit makes the boot manager go
// on with its next entry, while a plain exit would end in its menu.
var templates = template.Must(template.New("").Parse(`
{{- define "agent"}}#!ipxe
echo
echo eDeploy: {{.Machine}} starts the agent ({{.Action}})
kernel --name {{.KernelName}} {{.Kernel}} initrd={{.InitrdName}} {{.Args}} || goto failed
initrd --name {{.InitrdName}} {{.Initrd}} || goto failed
boot || goto failed
:failed
imgfree
echo eDeploy: {{.Machine}} could not start the agent, asking again in 10 seconds
:again
sleep 10
chain --replace --autofree {{.Again}} || goto again
{{end}}
{{- define "local"}}#!ipxe
echo
echo eDeploy: {{.Machine}} is installed, booting its own disk
{{range .Disks}}chain --autofree {{.}}&platform=${platform} || echo eDeploy: this disk does not start, trying the next one
{{end}}iseq ${platform} efi && exit 1 ||
sanboot --no-describe --drive 0x80 ||
sanboot --no-describe --drive 0x81 ||
sanboot --no-describe --drive 0x82 ||
sanboot --no-describe --drive 0x83 || echo eDeploy: no disk boots, trying the next boot device
exit 1
{{end}}
{{- define "hold"}}#!ipxe
echo
echo eDeploy: {{.Machine}} is on hold, asking again every 10 seconds{{with .Why}}: {{.}}{{end}}
:again
sleep 10
chain --replace --autofree {{.Again}} || goto again
{{end}}`))

var byAction = map[wire.BootAction]string{
	wire.BootInstall: "agent",
	wire.BootRescue:  "agent",
	wire.BootWipe:    "agent",
	wire.BootLocal:   "local",
	wire.BootHold:    "hold",
}

// Write writes the script. An action that does not exist is an error.
func Write(s Script) (string, error) {
	name, ok := byAction[s.Action]
	if !ok {
		return "", fmt.Errorf("there is no boot action %q", s.Action)
	}
	s.Args = strings.TrimSpace(s.Action.Mode() + " " + s.Args)
	var text strings.Builder
	data := struct {
		Script
		KernelName, InitrdName string
	}{s, kernelName, initrdName}
	if err := templates.ExecuteTemplate(&text, name, data); err != nil {
		return "", fmt.Errorf("write iPXE script: %w", err)
	}
	return text.String(), nil
}

// maxArgs leaves room in the 2048 bytes of an x86 kernel's command line for
// what this package adds.
const maxArgs = 1900

// CheckArgs tells whether kernel arguments survive a script unchanged. iPXE
// splits a line at blanks and knows no quotes: it expands ${...}, cuts at a
// word that begins with #, and at the words || and &&.
func CheckArgs(args string) error {
	if len(args) > maxArgs {
		return fmt.Errorf("kernel arguments: %d bytes are more than %d", len(args), maxArgs)
	}
	if i := strings.IndexFunc(args, func(r rune) bool { return r < ' ' || r == 0x7f }); i >= 0 {
		return fmt.Errorf("kernel arguments hold the control character %q", args[i])
	}
	if strings.Contains(args, "${") {
		return fmt.Errorf("kernel arguments hold ${, which iPXE would replace")
	}
	for _, word := range strings.Fields(args) {
		if word == "||" || word == "&&" || word[0] == '#' {
			return fmt.Errorf("kernel arguments hold the word %q, at which iPXE would end the line", word)
		}
	}
	return nil
}
