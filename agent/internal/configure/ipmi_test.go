package configure_test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"edeploy/agent/internal/command"
	"edeploy/agent/internal/configure"
	"edeploy/integration/needs"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

// TestIPMI: what ipmitool is told, and what a person reads of it.
func TestIPMI(t *testing.T) {
	const users = "1,,true,false,false,NO ACCESS\n2,admin,true,true,true,ADMINISTRATOR\n3,(Empty User),true,false,false,NO ACCESS\n"
	user := func(id string) []string {
		return []string{"ipmitool user set password " + id + " *** 16", "ipmitool channel setaccess 1 " + id + " callin=on ipmi=on link=on privilege=4",
			"ipmitool user enable " + id, "ipmitool user test " + id + " 16 ***"}
	}
	begin := []string{"ipmitool mc info", "ipmitool -c user list 1"}
	network := []string{"ipmitool mc info", "ipmitool lan set 1 ipsrc static", "ipmitool lan set 1 ipaddr 10.0.0.9", "ipmitool lan set 1 netmask 255.255.255.0", "ipmitool lan set 1 defgw ipaddr 10.0.0.1"}
	for _, tt := range []struct {
		name, script string
		users, fail  string // a command that holds fail fails
		ran          []string
		err          string
	}{
		{"a new user", "ipmi.setup_user(1, 'ops', 'secret')", users, "", slices.Concat(begin, []string{"ipmitool user set name 3 ops"}, user("3")), ""},
		{"one that is there", "ipmi.setup_user(1, 'admin', 'secret')", users, "", slices.Concat(begin, user("2")), ""},
		{"no place", "ipmi.setup_user(1, 'ops', 'secret')", "1,,true,false,false,NO ACCESS\n2,admin,true,true,true,ADMINISTRATOR\n", "", begin,
			"ipmi.setup_user: the BMC has no place for the user ops: it has 2"},
		{"a password of 20 bytes", "ipmi.setup_user(1, 'admin', '01234567890123456789')", users, "setaccess", slices.Concat(begin, []string{"ipmitool user set password 2 *** 20", user("2")[1]}), "exit status 1"},
		{"a long password", "ipmi.setup_user(1, 'admin', '012345678901234567890')", users, "", nil, "ipmi.setup_user: the password of admin has 21 bytes: want 1 to 20"},
		{"an empty password", "ipmi.setup_user(1, 'admin', '')", users, "", nil, "has 0 bytes"},
		{"a long name", "ipmi.setup_user(1, 'administrators-all', 'x')", users, "", nil, "want 1 to 16 bytes"},
		{"a password that fails", "ipmi.setup_user(1, 'admin', 'secret')", users, "set password", append(begin, user("2")[0]), "ipmitool user set password 2 *** 16: exit status 1"},
		{"network", "ipmi.setup_network(1, '10.0.0.9', '255.255.255.0', '10.0.0.1')", "", "", append(network, "ipmitool lan set 1 vlan id off", "ipmitool lan set 1 arp respond on", "ipmitool mc reset cold"), ""},
		{"network, VLAN, no switch for ARP", "ipmi.setup_network(1, '10.0.0.9', '255.255.255.0', gateway='10.0.0.1', vlan_id=7)", "", "arp", append(network, "ipmitool lan set 1 vlan id 7", "ipmitool lan set 1 arp respond on", "ipmitool mc reset cold"), ""},
		{"texts for numbers, as variables are", "ipmi.setup_user('1', 'admin', 12345)", users, "", slices.Concat(begin, user("2")), ""},
		{"no number", "ipmi.setup_user('one', 'admin', 'secret')", users, "", nil, `ipmi.setup_user: arguments: for parameter channel: want a whole number, not "one"`},
		{"restart", "ipmi.restart_bmc()", "", "", []string{"ipmitool mc info", "ipmitool mc reset cold"}, ""},
		{"no BMC", "ipmi.restart_bmc()", "", "mc info", []string{"ipmitool mc info"}, "ipmi.restart_bmc: this machine has no BMC that the kernel knows (/dev/ipmi0)"},
		{"no such function", "ipmi.bmc()", "", "", nil, "module has no .bmc field or method"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := &machine{root: t.TempDir()}
			h := m.host(wire.BootArgs{})
			h.Run = func(_ context.Context, c command.Command) ([]byte, error) {
				if c.Argv[0] != "ipmitool" {
					return nil, nil
				}
				m.ran = append(m.ran, c.String())
				switch {
				case tt.fail != "" && strings.Contains(c.String(), tt.fail):
					return nil, &command.Failure{Command: c.String(), Cause: errors.New("exit status 1"), Output: []byte("Could not open device at /dev/ipmi0\n")}
				case c.Argv[1] == "-c":
					return []byte(tt.users), nil
				}
				return nil, nil
			}
			_, err := configure.Run(t.Context(), h, wire.Configuration{Profile: "vm", Script: tt.script + "\nset_role('a', '1', 'sda')"})
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%v, want %q", err, tt.err)
			}
			if diff := cmp.Diff(tt.ran, m.ran); diff != "" {
				t.Errorf("commands (-want +got):\n%s", diff)
			}
			if strings.Contains(m.log.String()+fmt.Sprint(err), "secret") {
				t.Errorf("the password is shown: %v\n%s", err, &m.log)
			}
		})
	}
}

// TestNoIPMITool: an initrd without ipmitool says so.
func TestNoIPMITool(t *testing.T) {
	m := &machine{root: t.TempDir()}
	h := m.host(wire.BootArgs{})
	h.Run = func(_ context.Context, c command.Command) ([]byte, error) {
		return nil, &command.Failure{Command: c.String(), Cause: &exec.Error{Name: c.Argv[0], Err: exec.ErrNotFound}}
	}
	_, err := configure.Run(t.Context(), h, wire.Configuration{Profile: "vm", Script: "ipmi.restart_bmc()\nset_role('a', '1', 'sda')"})
	if err == nil || !strings.Contains(err.Error(), "vm.configure:1: ipmi.restart_bmc: the initrd has no ipmitool") {
		t.Errorf("%v", err)
	}
}

// TestIPMIPeer: a real ipmitool and OpenIPMI's BMC: the user whom the script
// makes logs in, and finds the address.
func TestIPMIPeer(t *testing.T) {
	bmc := needs.NewBMC(t)
	m := &machine{root: t.TempDir()}
	h := m.host(wire.BootArgs{})
	h.Run = func(ctx context.Context, c command.Command) ([]byte, error) {
		c.Argv = bmc.Command("root", "root", c.Argv[1:]...).Args
		return command.On(&m.log)(ctx, c)
	}
	const script = "ipmi.setup_network(1, '10.0.0.9', '255.255.255.0', '10.0.0.1')\nipmi.setup_user(1, 'ops', 'geheim12')\nipmi.setup_user(1, 'ops', 'geheim34')\n"
	_, err := configure.Run(t.Context(), h, wire.Configuration{Profile: "vm", Script: script + "set_role('a', '1', 'sda')"})
	if err != nil {
		t.Fatalf("%v\n%s", err, &m.log)
	}
	if out, err := bmc.Command("ops", "geheim12", "mc", "info").CombinedOutput(); err == nil {
		t.Errorf("the password before is still good:\n%s", out)
	}
	out, err := bmc.Command("ops", "geheim34", "lan", "print", "1").CombinedOutput()
	for _, want := range []string{"Static Address", ": 10.0.0.9\n", ": 255.255.255.0\n", ": 10.0.0.1\n"} {
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%v: no %q in\n%s", err, want, out)
		}
	}
	list, err := bmc.Command("ops", "geheim34", "-c", "user", "list", "1").Output()
	if err != nil || !strings.Contains(string(list), "\n3,ops,") || strings.Contains(string(list), "\n4,ops,") || !strings.Contains(string(list), "\n3,ops,true,true,true,ADMINISTRATOR\n") {
		t.Errorf("%v, users\n%s", err, list)
	}
}
