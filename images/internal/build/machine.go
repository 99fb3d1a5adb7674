package build

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"edeploy/images/internal/role"
)

// machineUnit makes what a machine lacks before anything else needs it: services
// that start early, such as iscsid, wait for the network at least.
const machineUnit = `[Unit]
Description=Make the keys, names and numbers of this machine that are missing
DefaultDependencies=no
RequiresMountsFor=/etc /usr /var
After=local-fs.target systemd-random-seed.service
Before=sysinit.target network-pre.target
Wants=network-pre.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/run-parts ` + role.MachineDir + `

[Install]
WantedBy=sysinit.target
`

// machineScript is the part of the finish script that takes out of the tree what
// belongs to one machine, and has each machine make its own. What is made is
// excluded from upgrades.
func machineScript(machines []role.Machine) string {
	var s strings.Builder
	dir := "." + role.MachineDir
	for _, m := range machines {
		paths := slices.Concat(m.Paths, m.Edited)
		if len(paths) == 0 {
			fmt.Fprintf(&s, "(\n%s\n)\n", strings.TrimSpace(m.Clean))
			continue
		}
		fmt.Fprintf(&s, "if [ -e %s/%s ] || there %s; then\n", dir, m.Name, inTree(paths))
		if len(m.Paths) > 0 {
			fmt.Fprintf(&s, "rm -rf %s\n", inTree(m.Paths))
		}
		for _, p := range m.Edited {
			fmt.Fprintf(&s, "[ -e .%[1]s ] || [ ! -e .%[2]s%[1]s ] || mv .%[2]s%[1]s .%[1]s\n", p, role.TemplateDir)
		}
		if m.Clean != "" {
			fmt.Fprintf(&s, "(\n%s\n)\n", strings.TrimSpace(m.Clean))
		}
		for _, p := range m.Edited {
			fmt.Fprintf(&s, "if [ -e .%[1]s ]; then mkdir -p .%[2]s%[3]s; mv .%[1]s .%[2]s%[1]s; fi\n", p, role.TemplateDir, path.Dir(p))
		}
		if m.Make != "" {
			fmt.Fprintf(&s, "mkdir -p %[1]s\ncat > %[1]s/%[2]s <<'END_OF_MACHINE'\n%[3]sEND_OF_MACHINE\nchmod 755 %[1]s/%[2]s\n", dir, m.Name, makeScript(m))
		}
		for _, p := range paths {
			fmt.Fprintf(&s, "exclude '%s'\n", p)
		}
		s.WriteString("fi\n")
	}
	fmt.Fprintf(&s, `if [ -d %s ] && [ -d usr/lib/systemd/system ]; then
cat > usr/lib/systemd/system/edeploy-machine.service <<'END_OF_UNIT'
%sEND_OF_UNIT
mkdir -p etc/systemd/system/sysinit.target.wants
ln -sf /usr/lib/systemd/system/edeploy-machine.service etc/systemd/system/sysinit.target.wants/
fi
`, dir, machineUnit)
	return s.String()
}

// inTree are patterns relative to the tree, for the shell.
func inTree(patterns []string) string { return "." + strings.Join(patterns, " .") }

// makeScript runs on a machine, at each start. An empty file is one that a power
// cut has left of what was made before: its name was on the disk, its content not
// yet.
func makeScript(m role.Machine) string {
	all := slices.Concat(m.Paths, m.Edited)
	files := slices.DeleteFunc(slices.Clone(all), func(p string) bool { return strings.ContainsAny(p, "*?[") })
	var s strings.Builder
	fmt.Fprintf(&s, "#!/bin/sh\n# Makes what belongs to this machine alone, when it is missing or empty: %s\nset -eu\n[ -s %s ] && exit 0\n",
		strings.Join(all, " "), strings.Join(files, " ] && [ -s "))
	fmt.Fprintf(&s, "for file in %s; do [ -s $file ] || rm -f $file; done\n", strings.Join(files, " "))
	for _, p := range m.Edited {
		fmt.Fprintf(&s, "[ -e %[1]s ] || cp -a %[2]s%[1]s %[1]s\n", p, role.TemplateDir)
	}
	return s.String() + strings.TrimSpace(m.Make) + "\nsync\n"
}
