package installed

import (
	"path"
	"slices"
	"strings"
)

// Rules name paths that may differ from the manifest, each with all below it.
// They are shell patterns without a leading slash; "*" does not match a slash.
type Rules []string

// Volatile is the built-in list: what every running Linux system changes. The
// roles' exclude lists have it, too, so upgrades leave it alone.
var Volatile = Rules{
	// mounted by the kernel and systemd, or emptied at boot
	"dev", "proc", "sys", "run", "tmp", "var/tmp",
	// logs, caches, queues
	"var/log", "var/cache", "var/spool", "var/backups",
	// states that programs keep for this machine
	"var/lib/edeploy", "var/lib/systemd", "var/lib/dbus/machine-id", "var/lib/dhcp", "var/lib/dhcpcd", "var/lib/NetworkManager",
	"var/lib/logrotate", "var/lib/misc", "var/lib/private", "var/lib/chrony", "var/lib/ntp*", "var/lib/urandom", "var/lib/apt/lists",
	"var/lib/apt/periodic", "var/.updated",
	// identity and settings made at first boot or by DHCP
	"etc/machine-id", "etc/ssh/ssh_host_*", "etc/resolv.conf", "etc/adjtime", "etc/mtab", "etc/.pwd.lock", "etc/.updated",
	// people
	"home", "root/.*", "mnt", "media", "lost+found",
}

// literal is the pattern that matches one name only.
func literal(name string) string {
	var b strings.Builder
	for i := range len(name) {
		if strings.IndexByte(`*?[\`, name[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(name[i])
	}
	return b.String()
}

// literals are the rules for names.
func literals(names []string) Rules {
	var rules Rules
	for _, name := range names {
		rules = append(rules, literal(name))
	}
	return rules
}

// Followed are the rules and what they name through links of the machine: where
// var/log leads to data/log, that is a log, too.
func (m Machine) Followed(rules Rules) Rules {
	all := slices.Clone(rules)
	for _, rule := range rules {
		dir, base := path.Split(rule)
		at := path.Join(m.Inside(dir), base)
		if !strings.ContainsAny(rule, `*?[\`) {
			at = m.Inside(rule)
		}
		if at != rule && at != "." {
			all = append(all, at)
		}
	}
	return all
}

// Match tells whether a rule names the path itself.
func (r Rules) Match(name string) bool {
	for _, rule := range r {
		if ok, _ := path.Match(rule, name); ok {
			return true
		}
	}
	return false
}

// anyIn tells whether a rule names something in a directory, with deep also
// further below.
func (r Rules) anyIn(dir string, deep bool) bool {
	for _, rule := range r {
		parent := path.Dir(rule)
		for deep && parent != "." && len(strings.Split(parent, "/")) > len(strings.Split(dir, "/")) {
			parent = path.Dir(parent)
		}
		if ok, _ := path.Match(parent, dir); ok {
			return true
		}
	}
	return false
}
