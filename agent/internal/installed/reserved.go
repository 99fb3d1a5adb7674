package installed

import (
	"path"
	"strings"

	"edeploy/agent/internal/bootguard"
	"edeploy/agent/internal/disk"
	"edeploy/agent/internal/filter"
	"edeploy/agent/internal/transaction"
	"edeploy/server/wire"
)

// state are the directories and files that this program keeps for itself, and
// so no part of any tree: what the machine is, the logs of upgrades, the boot
// guard, and the directory of the transaction on every file system.
func (m Machine) state() ([]string, error) {
	mounts, err := disk.Below("/proc/self/mountinfo", m.Root)
	if err != nil {
		return nil, err
	}
	names := []string{m.Inside(path.Dir(wire.ConfPath)), m.Inside(wire.LogDir), m.Inside(bootguard.Dir), transaction.Dir}
	for _, mount := range mounts {
		if at := mount.Relative(m.Root); at != "/" {
			names = append(names, path.Join(at[1:], transaction.Dir))
		}
	}
	return names, nil
}

// Protected are the rules of what no upgrade touches, whatever its metadata
// say: the program's own, what the installation wrote over the tree
// (wire.LocalPath), and GRUB's custom.cfg, which the boot guard replaces.
func (m Machine) Protected() (filter.List, error) {
	names, err := m.state()
	if err != nil {
		return filter.List{}, err
	}
	local, err := m.localNames()
	if err != nil {
		return filter.List{}, err
	}
	names = append(append(names, m.Inside("boot/grub")+"/custom.cfg", m.Inside("boot/grub2")+"/custom.cfg"), local...)
	var text strings.Builder
	for _, name := range names {
		text.WriteString("- /" + anchored(name) + "\n")
	}
	return filter.Parse(text.String(), filter.Exclude)
}

// anchored is the rsync pattern for one name: its backslashes count only when
// it has a wildcard.
func anchored(name string) string {
	if strings.ContainsAny(name, "*?[") {
		return literal(name)
	}
	return name
}
