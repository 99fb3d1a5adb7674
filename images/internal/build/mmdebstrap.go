package build

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"edeploy/images/internal/role"
)

// Files that prepare leaves in the work directory for mmdebstrap's hooks.
const (
	filesTar     = "files.tar"   // laid over the tree
	archiveHook  = "archive"     // where packages come from, before any is fetched
	secondHook   = "second"      // the same for the second build
	usersHook    = "users"       // before the packages
	installHook  = "install"     // packages of a derived role
	commandsHook = "commands"    // the role's commands
	finishHook   = "finish"      // what makes a tree into a role
	unpackHook   = "unpack"      // the base role's tree
	commandsText = "commands.sh" // read by commandsHook
)

// mergedUsr makes /bin, /lib and /sbin links into /usr from the start, where the
// suite wants it so, without the package that converts a system.
const mergedUsr = "/usr/share/mmdebstrap/hooks/maybe-merged-usr"

// mmdebstrapArgs are the arguments that make the tree. There is no mirror among
// them: mmdebstrap's own default is used.
func (c recipe) mmdebstrapArgs(work string) []string {
	hook := func(stage, name string) string { return "--" + stage + "-hook=" + filepath.Join(work, name) }
	archive := archiveHook
	if c.second {
		archive = secondHook
	}
	args := []string{"--mode=auto", "--format=tar", "--verbose", "--components=" + strings.Join(c.parts, ",")}
	if c.archive == "" {
		for _, o := range c.role.DpkgOptions {
			args = append(args, "--dpkgopt="+o)
		}
		all := c.packages()
		if k := c.kernel(); k != "" {
			all = append([]string{k}, all...)
		}
		args = append(args, "--variant=minbase", "--hook-dir="+mergedUsr, hook("setup", archive), "--include="+strings.Join(all, ","),
			hook("essential", usersHook))
	} else {
		args = append(args, "--variant=custom", hook("setup", unpackHook), hook("setup", archive),
			hook("customize", usersHook), hook("customize", installHook))
	}
	return append(args, "--customize-hook=tar-in "+filepath.Join(work, filesTar)+" /",
		hook("customize", commandsHook), hook("customize", finishHook), c.suite, "-")
}

// prepare writes the hooks and the files to lay in.
func (b Build) prepare(c recipe, work string) error {
	scripts := map[string]string{
		archiveHook:  c.archiveScript(),
		usersHook:    usersScript(c.role.Users),
		installHook:  c.installScript(),
		commandsHook: "#!/bin/sh\nexec chroot \"$1\" /bin/sh -eux -c \"$(cat '" + filepath.Join(work, commandsText) + "')\"\n",
		finishHook:   b.finishScript(c),
		unpackHook:   unpackScript(c.archive),
	}
	for name, text := range scripts {
		if err := os.WriteFile(filepath.Join(work, name), []byte(text), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(work, commandsText), []byte(c.commands()), 0o644); err != nil {
		return err
	}
	return b.writeFiles(c, work)
}

func (c recipe) commands() string {
	all := slices.Concat(c.role.Commands, c.version.Commands)
	if c.initramfs() {
		all = append(all, "[ ! -d /boot ] || [ -z \"$(ls /boot/initrd.img-* 2>/dev/null)\" ] || update-initramfs -u -k all")
	}
	return strings.Join(append(all, ":"), "\n")
}

// Files that steer apt while the tree is made, below /etc/apt in it.
const (
	aptSources     = "sources.list.d/edeploy-build.list"
	aptPreferences = "preferences.d/edeploy-build"
)

// archiveScript names further suites and preferences to apt. The suites are
// taken from the mirror that the tree's own suite comes from.
func (c recipe) archiveScript() string {
	var s strings.Builder
	s.WriteString("#!/bin/sh\nset -eu\n")
	if c.second {
		// In a UTS namespace of its own: mmdebstrap's, or that of Build.mmdebstrap.
		fmt.Fprintf(&s, "hostname %[1]s || echo %[1]s > /proc/sys/kernel/hostname || true\n"+
			"[ \"$(uname -n)\" = %[1]s ] || { echo 'the second build needs a host of another name, which takes a namespace: build with --once, or as root' >&2; exit 1; }\n"+
			"echo %[1]s > \"$1/etc/hostname\"\n", secondHost)
	}
	s.WriteString("cd \"$1/etc/apt\"\nmkdir -p sources.list.d preferences.d\n")
	for _, suite := range c.version.Sources {
		fmt.Fprintf(&s, "cat sources.list sources.list.d/* 2>/dev/null | sed -n 's,^\\(deb .*[^ ]\\) %s \\(.*\\)$,\\1 %s \\2,p' | head -n 1 >> %s\n"+
			"grep -q ' %[2]s ' %[3]s || { echo 'no source of %[1]s is known, so there is none of %[2]s' >&2; exit 1; }\n", c.suite, suite, aptSources)
	}
	for _, p := range c.version.Prefer {
		fmt.Fprintf(&s, "cat >> %s <<'END_OF_PREFERENCE'\nPackage: %s\nPin: release n=%s\nPin-Priority: 990\n\nEND_OF_PREFERENCE\n",
			aptPreferences, strings.Join(p.Packages, " "), p.Suite)
	}
	return s.String()
}

// usersScript adds accounts by writing the files: no account tool is in the
// tree yet. An account that is there is left as it is.
func usersScript(users []role.User) string {
	var s strings.Builder
	s.WriteString("#!/bin/sh\nset -eu\ncd \"$1/etc\"\n")
	for _, u := range users {
		fmt.Fprintf(&s, "grep -q '^%[1]s:' group || { echo '%[1]s:x:%[3]d:' >> group; [ ! -e gshadow ] || echo '%[1]s:!::' >> gshadow; }\n"+
			"grep -q '^%[1]s:' passwd || { echo '%[1]s:x:%[2]d:%[3]d::%[4]s:%[5]s' >> passwd; [ ! -e shadow ] || echo '%[1]s:!:1::::::' >> shadow; }\n",
			u.Name, u.UID, u.GID, u.Home, u.Shell)
	}
	return s.String()
}

// installScript brings the packages into a tree that has some already.
func (c recipe) installScript() string {
	var s strings.Builder
	s.WriteString(`#!/bin/sh
set -eu
export DEBIAN_FRONTEND=noninteractive
apt() { chroot "$root" apt-get --yes --no-install-recommends -o Dpkg::Options::=--force-confold -o Dpkg::Use-Pty=0 "$@"; }
root=$1
`)
	install := func(option string, packages []string) {
		if len(packages) > 0 {
			fmt.Fprintf(&s, "apt install %s%s\n", option, strings.Join(packages, " "))
		}
	}
	if c.derived() {
		install("--no-upgrade ", c.role.Packages)
	}
	install("", c.packages())
	switch {
	case slices.Contains(c.version.Upgrade, "*"):
		s.WriteString("apt dist-upgrade\n")
	case len(c.version.Upgrade) > 0:
		install("--only-upgrade ", quoted(c.version.Upgrade))
	}
	if k := c.kernel(); k != "" {
		install("", []string{k})
		s.WriteString("kernels=" + packageOnly(k) + "\n" + oneKernelScript)
	} else if c.derived() {
		s.WriteString(anyKernelScript + oneKernelScript)
	}
	return s.String()
}

// anyKernelScript finds the packages that depend on the newest kernel of their
// kind.
const anyKernelScript = `kernels=$(chroot "$root" dpkg-query -W -f '${Package} ' 'linux-image-[!0-9]*' 2>/dev/null || true)
`

// oneKernelScript removes all kernels but those named in $kernels, which may be
// packages that depend on them.
const oneKernelScript = `keep=
for kernel in $kernels; do
	keep="$keep $kernel $(chroot "$root" dpkg-query -W -f '${Depends}' "$kernel" | tr ',' '\n' | sed 's/^ *\([^ ]*\).*/\1/' | tr '\n' ' ')"
done
for old in ${keep:+$(chroot "$root" dpkg-query -W -f '${Package} ' 'linux-image-*')}; do
	case "$keep " in *" $old "*) continue ;; esac
	apt purge "$old"
done
`

// packageOnly is the name in name=version.
func packageOnly(p string) string {
	name, _, _ := strings.Cut(p, "=")
	return name
}

// quoted keeps the shell from taking patterns for names of files.
func quoted(words []string) []string {
	var all []string
	for _, w := range words {
		all = append(all, "'"+w+"'")
	}
	return all
}

func unpackScript(archive string) string {
	if archive == "" {
		return "#!/bin/sh\n"
	}
	// What mmdebstrap made already (/dev, resolv.conf, apt's sources) stays.
	return "#!/bin/sh\nset -eu\nzstd --decompress --stdout '" + archive + "' | tar --extract --preserve-permissions --numeric-owner" +
		" --xattrs --xattrs-include='*' --exclude=./dev --exclude=./etc/resolv.conf --directory=\"$1\"\n"
}

// finishScript makes a tree into a role: nothing of the building machine and
// of the build is left, and the excludes of the base role and of this one are
// in /var/lib/edeploy/VERSION/exclude (reference section 9.3).
func (b Build) finishScript(c recipe) string {
	var s strings.Builder
	fmt.Fprintf(&s, `#!/bin/sh
set -eu
cd "$1"
rm -f var/lib/dbus/machine-id var/lib/systemd/random-seed var/lib/systemd/credential.secret
: > etc/machine-id
: > etc/resolv.conf
rm -rf var/cache/apt/*.bin var/cache/debconf/*-old var/cache/ldconfig/aux-cache var/lib/dpkg/*-old var/lib/apt/extended_states.lock
rm -f etc/apt/%[2]s etc/apt/%[3]s
rm -f etc/passwd- etc/group- etc/shadow- etc/gshadow- etc/subuid- etc/subgid- etc/.pwd.lock
find var/log -type f -delete
find . -xdev -name __pycache__ -type d -prune -exec rm -rf {} +
mkdir -p var/lib/edeploy/%[1]s
for old in var/lib/edeploy/*/exclude; do
	case "$old" in "var/lib/edeploy/%[1]s/exclude" | "var/lib/edeploy/*/exclude") continue ;; esac
	cat "$old" > var/lib/edeploy/%[1]s/exclude
	rm -r "${old%%/exclude}"
done
touch var/lib/edeploy/%[1]s/exclude
exclude() { grep -qxF -e "$1" var/lib/edeploy/%[1]s/exclude || printf '%%s\n' "$1" >> var/lib/edeploy/%[1]s/exclude; }
there() { for p; do if [ -e "$p" ] || [ -L "$p" ]; then return 0; fi; done; return 1; }
while IFS= read -r line; do
	exclude "$line"
done <<'END_OF_EXCLUDE'
`, b.Image.Version, aptSources, aptPreferences)
	for _, line := range slices.Concat(c.role.Exclude, c.version.Exclude) {
		s.WriteString(line + "\n")
	}
	s.WriteString("END_OF_EXCLUDE\n" + machineScript(c.machine))
	for _, pattern := range slices.Concat(c.role.Remove, c.version.Remove) {
		s.WriteString("rm -rf ." + pattern + "\n")
	}
	return s.String()
}
