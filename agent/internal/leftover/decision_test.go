package leftover_test

import (
	"strings"
	"testing"

	"edeploy/agent/internal/leftover"
)

func TestParseMapping(t *testing.T) {
	type mapping struct {
		path    string
		deleted bool
		inode   uint64
		ok      bool
	}
	for line, want := range map[string]mapping{
		"55cc9c6ee000-55cc9c6f4000 r-xp 00002000 fe:00 247278                     /usr/bin/head":           {"/usr/bin/head", false, 247278, true},
		"55cc9c6ee000-55cc9c6f4000 r-xp 00002000 fe:00 247278                     /usr/bin/head (deleted)": {"/usr/bin/head", true, 247278, true},
		"55cc9c6ee000-55cc9c6f4000 rwxs 00002000 08:01 3 /opt/with  blank":                                 {"/opt/with  blank", false, 3, true},
		`7f-80 --xp 00000000 08:01 3 /opt/new\012line`:                                                     {"/opt/new\nline", false, 3, true},
		"55cc9c6ec000-55cc9c6ee000 r--p 00000000 fe:00 247278                     /usr/bin/head":           {},
		"7ffd2b5f2000-7ffd2b5f4000 r-xp 00000000 00:00 0                          [vdso]":                  {},
		"7f0000000000-7f0000001000 rwxp 00000000 00:00 0 ":                                                 {},
		"7f0000000000-7f0000001000 rwxp 00000000 00:00 0":                                                  {},
		"7f-80 r-xp 00000000 00:0e 1035 anon_inode:[perf_event]":                                           {},
		"7f-80 r-xp 00000000 08:01 x /usr/bin/head":                                                        {},
		"7f-80 r-xp": {},
		"":           {},
	} {
		var got mapping
		if got.path, got.deleted, got.inode, got.ok = leftover.ParseMapping(line); got != want {
			t.Errorf("%q = %+v, want %+v", line, got, want)
		}
	}
}

func FuzzParseMapping(f *testing.F) {
	for _, line := range []string{
		"55cc9c6ee000-55cc9c6f4000 r-xp 00002000 fe:00 247278                     /usr/bin/head (deleted)",
		"7ffd2b5f2000-7ffd2b5f4000 r-xp 00000000 00:00 0                          [vdso]",
		`7f-80 --xp 00000000 08:01 18446744073709551616 /opt/new\012line`,
		"7f-80 --xp 0 0:0 1  (deleted)", "     ", "a x c d 1 / (deleted)",
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		path, _, inode, ok := leftover.ParseMapping(line)
		if !ok && (path != "" || inode != 0) {
			t.Errorf("%q is none, but %q %d", line, path, inode)
		}
		if !ok {
			return
		}
		if !strings.HasPrefix(path, "/") || inode == 0 || !strings.Contains(strings.ReplaceAll(line, `\012`, "\n"), path) {
			t.Errorf("%q = %q, inode %d", line, path, inode)
		}
	})
}

func TestServiceOf(t *testing.T) {
	for text, want := range map[string]string{
		"0::/system.slice/ssh.service\n":                                       "ssh.service",
		"0::/ssh.service":                                                      "ssh.service",
		"0::/system.slice/system-getty.slice/getty@tty1.service\n":             "getty@tty1.service",
		"0::/system.slice/docker.service/7f3a/inner.service\n":                 "docker.service",
		"0::/system.slice/_cgroup.service\n":                                   "cgroup.service",
		"12:cpu:/\n1:name=systemd:/system.slice/cron.service\n0::/\n":          "cron.service",
		"12:cpu,cpuacct:/system.slice/wrong.service\n0::/\n":                   "",
		"0::/user.slice/user-1000.slice/session-3.scope\n":                     "",
		"0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.service": "",
		"0::/machine.slice/libpod-1.scope/container\n":                         "",
		"0::/init.scope\n":                                                     "",
		"0::/system.slice/mnt.mount\n":                                         "",
		"0::/../../system.slice/x.service\n":                                   "", // of another cgroup namespace
		"0::/\n":                                                               "",
		"0::/system.slice/a\x1b[2J.service":                                    "",
		"nonsense":                                                             "",
		"":                                                                     "",
	} {
		if got := leftover.ServiceOf(text); got != want {
			t.Errorf("service of %q = %q, want %q", text, got, want)
		}
	}
}

func FuzzServiceOf(f *testing.F) {
	f.Add("0::/system.slice/ssh.service\n")
	f.Add("1:name=systemd:/system.slice/a:b.service\n0::/\n")
	f.Fuzz(func(t *testing.T, text string) {
		unit := leftover.ServiceOf(text)
		if unit != "" && (!strings.HasSuffix(unit, ".service") || strings.ContainsAny(unit, "/\n\x1b") || !strings.Contains(text, unit)) {
			t.Errorf("service of %q = %q", text, unit)
		}
	})
}

func TestOnlyByReboot(t *testing.T) {
	for unit, want := range map[string]bool{"dbus.service": true, "systemd-logind.service": true, "ifup@ens3.service": true, "ssh.service": false, "systemd-journald.service": false} {
		if got := leftover.OnlyByReboot(unit); got != want {
			t.Errorf("%s only by a reboot: %t", unit, got)
		}
	}
}

func TestPlain(t *testing.T) {
	for name, want := range map[string]string{"tmux: server": "tmux: server", "a\nb\x1b\xff": "a?b??", "größe": "größe"} {
		if got := leftover.Plain(name); got != want {
			t.Errorf("plain(%q) = %q, want %q", name, got, want)
		}
	}
}
