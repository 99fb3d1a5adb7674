package needs

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// BMC is a management controller: OpenIPMI's simulator, which lives until the
// test ends. It has the user root, whose password is root, and no address.
type BMC struct {
	t       testing.TB
	lan     int // UDP port for IPMI over the network
	machine int // TCP port for the machine that it manages
}

// NewBMC starts one on loopback.
func NewBMC(t testing.TB) BMC {
	t.Helper()
	Programs(t, "ipmi_sim", "ipmitool")
	b := BMC{t, freePort(t), freePort(t)}
	dir := t.TempDir()
	conf, commands, network := filepath.Join(dir, "lan.conf"), filepath.Join(dir, "commands"), filepath.Join(dir, "network")
	for name, text := range map[string]string{
		conf: fmt.Sprintf(`name "bmc"
set_working_mc 0x20
  startlan 1
    addr 127.0.0.1 %d
    priv_limit admin
    allowed_auths_admin none md2 md5 straight
    guid a123456789abcdefa123456789abcdef
    lan_config_program "%s"
  endlan
  serial 15 127.0.0.1 %d codec VM
  user 1 true "" "" user 10 none md2 md5 straight
  user 2 true "root" "root" admin 10 none md2 md5 straight
`, b.lan, network, b.machine),
		commands: "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\nsel_enable 0x20 1000 0x0a\nmc_enable 0x20\n",
		// What the simulator asks and sets of its network card.
		network: `#!/bin/sh
cd ` + dir + `
op=$1; shift
case $op in
get) for name; do
	case $name in *mac*) value=02:00:00:00:00:09;; ip_addr_src) value=dhcp;; *) value=0.0.0.0;; esac
	[ ! -e "set.$name" ] || value=$(cat "set.$name")
	echo "$name:$value"
done;;
set) while [ $# -gt 1 ]; do echo "$2" >"set.$1"; shift 2; done;;
esac
`,
	} {
		if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	sim := exec.Command("ipmi_sim", "-c", conf, "-f", commands, "-s", filepath.Join(dir, "state"), "-n")
	sim.Stdout, sim.Stderr = t.Output(), t.Output()
	if err := sim.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = sim.Process.Kill() // it is asked nothing more
		_ = sim.Wait()
	})
	for deadline := time.Now().Add(10 * time.Second); ; {
		out, err := b.Command("root", "root", "mc", "info").CombinedOutput()
		if err == nil {
			return b
		}
		if time.Now().After(deadline) {
			t.Fatalf("the simulated BMC does not answer: %v\n%s", err, out)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// QEMU are the arguments that give a machine this BMC.
func (b BMC) QEMU() []string {
	return []string{"-chardev", fmt.Sprintf("socket,id=bmc,host=127.0.0.1,port=%d,reconnect=1", b.machine),
		"-device", "ipmi-bmc-extern,id=bmc,chardev=bmc", "-device", "isa-ipmi-kcs,bmc=bmc"}
}

// Command is ipmitool as a user over the network. The simulator does not say which
// cipher suites it has.
func (b BMC) Command(user, password string, words ...string) *exec.Cmd {
	return exec.Command("ipmitool", append([]string{"-I", "lanplus", "-H", "127.0.0.1", "-p", strconv.Itoa(b.lan), "-U", user, "-P", password, "-C", "3", "-N", "1", "-R", "2"}, words...)...)
}

// freePort is one that neither TCP nor UDP uses on loopback.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
