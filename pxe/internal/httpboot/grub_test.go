package httpboot_test

import (
	"strings"
	"testing"

	"edeploy/server/wire"
)

// TestGRUB: the same question and the same history as iPXE's.
func TestGRUB(t *testing.T) {
	for _, test := range []struct {
		name, query string
		action      wire.BootAction
		status      int
		asked, told string // "": not at all
		body        string // part of it
	}{
		{"install", "mac=" + mac + "&uuid=" + uuid + "&again=", wire.BootInstall, 200, mac + " " + uuid, mac + " " + uuid + " boots: install",
			"\nif linux '(http,192.168.122.1)/boot/file/vmlinuz?mac=" + mac + "&uuid=" + uuid + "' 'SERV=192.168.122.1'; then\n"},
		{"rescue", "mac=" + mac, wire.BootRescue, 200, mac + " ", mac + "  boots: rescue", "'RESCUE=1' 'SERV=192.168.122.1'"},
		{"wipe", "mac=" + mac, wire.BootWipe, 200, mac + " ", mac + "  boots: wipe", "'WIPE=1' 'SERV=192.168.122.1'"},
		{"local", "mac=" + mac, wire.BootLocal, 200, mac + " ", mac + "  boots: local", "chainloader /EFI/BOOT/BOOTX64.EFI"},
		{"still on hold", "mac=" + mac + "&again=hold", wire.BootHold, 200, mac + " ", "", "set again=hold"},
		{"agent did not start", "mac=" + mac + "&again=install", wire.BootInstall, 200, mac + " ", mac + "  could not start the agent; boots: install", "linux"},
		{"a UUID that is not set", "mac=" + mac + "&uuid=00000000-0000-0000-0000-000000000000", wire.BootHold, 200, mac + " ", mac + "  boots: hold", "hold"},
		{"no mac", "mac=&uuid=" + uuid, wire.BootInstall, 400, "", "", "parameter mac is missing"},
		{"an action that does not exist", "mac=" + mac, "explode", 500, mac + " ", "", `no boot action "explode"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLab(t)
			l.action = test.action
			resp, body := l.get(t, "GET", "/boot/grub?"+test.query)
			if resp.StatusCode != test.status || !strings.Contains(body, test.body) {
				t.Errorf("status %d, body:\n%s\nwant status %d and %q", resp.StatusCode, body, test.status, test.body)
			}
			if got := strings.Join(l.asked, "\n"); got != test.asked {
				t.Errorf("asked %q, want %q", got, test.asked)
			}
			if got := strings.Join(l.told, "\n"); got != test.told {
				t.Errorf("told %q, want %q", got, test.told)
			}
		})
	}
}

// TestGRUBFirst: what GRUB asks for by itself leads to the scripts.
func TestGRUBFirst(t *testing.T) {
	l := newLab(t)
	for path, status := range map[string]int{"/grub/x86_64-efi/grub.cfg": 200, "/grub/grub.cfg": 200, "/grub/x86_64-efi/http.mod": 404} {
		resp, body := l.get(t, "GET", path)
		if resp.StatusCode != status || (status == 200) != strings.Contains(body, `source "(http,192.168.122.1)/boot/grub?mac=$net_default_mac`) {
			t.Errorf("%s: status %d\n%s", path, resp.StatusCode, body)
		}
	}
}
