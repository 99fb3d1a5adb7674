// Package grub writes the scripts that GRUB runs on a machine whose firmware
// starts only what is signed.
//
// GRUB asks for First by itself, once: without an answer it ends in its prompt.
// First is a loop: it asks for the machine's script, and when that comes back
// because it is to wait or because something failed, asks again.
//
// Only what the signed GRUB of Debian 13 contains is used: Secure Boot lets it
// load no modules.
package grub

import (
	"fmt"
	"strings"
	"text/template"

	"edeploy/server/wire"
)

// Names are the files that Debian's GRUB for networks asks for, on the server and
// by the protocol that it came from itself: the first that is there counts
// (debian/build-efi-images). Other distributions take the second only.
var Names = []string{"grub/x86_64-efi/grub.cfg", "grub/grub.cfg"}

// first is run by every machine: GRUB fills in who it is. A word without quotes
// that holds a "?" would be a pattern for file names.
//
// The UUID is SMBIOS's (type 1, offset 8).
const first = `# eDeploy
set pager=0
smbios --type 1 --get-uuid 8 --set uuid
while true; do
  source "%s?mac=$net_default_mac&uuid=$uuid&again=$again"
  sleep 10
done
`

// First is what GRUB runs first; script is the URL of the machines' scripts,
// with no query.
func First(script string) (string, error) {
	place, err := file(script)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf(first, place), nil
}

// Script says what one machine boots.
type Script struct {
	Machine string          // who the machine is, for its console
	Action  wire.BootAction // what it boots
	Why     string          // for hold: why it waits; "" when an operator said so

	Kernel, Initrd string      // URLs; for actions that boot the agent
	Args           string      // the kernel's command line; for the same
	Disk           wire.DiskID // the installed disk; for local, "" when it is not known
}

// templates are the scripts by action. Each leaves in "again" what it was, for
// the next question.
//
// Local boot: firmware gives disks no names that an installed system knows, and
// the program that looks for the installed disk (package bootdisk) is not signed.
// The installation left a file on the disk that says which it is. Without that it
// is the first disk that has what every UEFI disk starts by. GRUB's exit would
// tell the firmware that all went well, and many a boot manager then waits in its
// menu.
var templates = template.Must(template.New("").Funcs(template.FuncMap{"quote": quote, "file": file}).Parse(`
{{- define "agent"}}set again={{.Action}}
echo
echo {{printf "eDeploy: %s starts the agent (%s)" .Machine .Action | quote}}
if linux {{file .Kernel | quote}}{{range .Words}} {{quote .}}{{end}}; then
  if initrd {{file .Initrd | quote}}; then
    boot
  fi
fi
echo {{printf "eDeploy: %s could not start the agent, asking again in 10 seconds" .Machine | quote}}
{{end}}
{{- define "local"}}set again={{.Action}}
echo
echo {{printf "eDeploy: %s is installed, booting its own disk" .Machine | quote}}
{{with .Mark}}if search --no-floppy --set=root --file {{quote .}}; then
  true
else
  echo 'eDeploy: the installed disk is not there, taking the first that boots'
  search --no-floppy --set=root --file /EFI/BOOT/BOOTX64.EFI
fi
{{else}}search --no-floppy --set=root --file /EFI/BOOT/BOOTX64.EFI
{{end}}if test -e /EFI/BOOT/BOOTX64.EFI; then
  if chainloader /EFI/BOOT/BOOTX64.EFI; then
    boot
  fi
fi
echo {{printf "eDeploy: no disk of %s boots, asking again in 10 seconds" .Machine | quote}}
{{end}}
{{- define "hold"}}set again={{.Action}}
echo
echo {{printf "eDeploy: %s is on hold, asking again every 10 seconds" .Machine | quote}}{{with .Why}} {{quote .}}{{end}}
{{end}}`))

var byAction = map[wire.BootAction]string{
	wire.BootInstall: "agent",
	wire.BootRescue:  "agent",
	wire.BootWipe:    "agent",
	wire.BootLocal:   "local",
	wire.BootHold:    "hold",
}

// Write writes the script. An action that does not exist, and arguments that do
// not come through GRUB unchanged, are errors.
func Write(s Script) (string, error) {
	name, ok := byAction[s.Action]
	if !ok {
		return "", fmt.Errorf("there is no boot action %q", s.Action)
	}
	if err := CheckArgs(s.Args); err != nil {
		return "", err
	}
	s.Args = s.Action.Mode() + " " + s.Args
	var text strings.Builder
	data := struct {
		Script
		Words []string
		Mark  string
	}{s, strings.Fields(s.Args), s.Disk.Mark()}
	if err := templates.ExecuteTemplate(&text, name, data); err != nil {
		return "", fmt.Errorf("write GRUB script: %w", err)
	}
	return text.String(), nil
}

// CheckArgs tells whether kernel arguments come to the kernel unchanged: GRUB
// writes a backslash in front of quotes and backslashes.
func CheckArgs(args string) error {
	if i := strings.IndexAny(args, "'\"\\\n"); i >= 0 {
		return fmt.Errorf("kernel arguments hold %q, which GRUB would change: machines that GRUB starts cannot have it", args[i])
	}
	return nil
}

// file is how GRUB names what is behind a URL: (http,HOST:PORT)/PATH.
func file(url string) (string, error) {
	rest, ok := strings.CutPrefix(url, "http://")
	host, path, rooted := strings.Cut(rest, "/")
	if !ok || !rooted || host == "" {
		return "", fmt.Errorf("GRUB reaches no URL %q", url)
	}
	return "(http," + host + ")/" + path, nil
}

// quote makes one word of any text: a word in single quotes ends at the next one.
func quote(text string) string {
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
