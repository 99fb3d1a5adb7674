package configure

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"go.starlark.net/starlark"

	"edeploy/agent/internal/command"
)

// ipmiFunctions are those of the module ipmi (reference section 8.3): they set
// the machine's BMC up by ipmitool. Unlike in the original, a command that fails
// ends the script, passwords are not shown, and a user gets an account of its own
// instead of number 1, which is nobody's on most BMCs.
var ipmiFunctions = map[string]function{
	"setup_user":    onBMC(bmc.setupUser),
	"setup_network": onBMC(bmc.setupNetwork),
	"restart_bmc":   onBMC(bmc.restart),
}

func onBMC(f func(bmc, starlark.Tuple, []starlark.Tuple) error) function {
	return func(e *helperEnv, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		return starlark.None, f(bmc{e.ctx, e.host}, args, kwargs)
	}
}

// bmc is the machine's BMC.
type bmc struct {
	ctx  context.Context
	host Host
}

// setup_user(channel, user, password) lets a user administrate the machine over
// the channel: the one of that name, or a new one.
func (b bmc) setupUser(args starlark.Tuple, kwargs []starlark.Tuple) error {
	var channel number
	var name, secret word
	if err := starlark.UnpackArgs("arguments", args, kwargs, "channel", &channel, "user", &name, "password", &secret); err != nil {
		return err
	}
	user, password, on := string(name), string(secret), strconv.Itoa(int(channel))
	size := "16"
	if len(password) > 16 {
		size = "20"
	}
	switch {
	case user == "" || len(user) > 16:
		return fmt.Errorf("the user name %q: want 1 to 16 bytes", user)
	case password == "" || len(password) > 20:
		return fmt.Errorf("the password of %s has %d bytes: want 1 to 20", user, len(password))
	}
	if err := b.await(); err != nil {
		return err
	}
	list, err := b.tool(nil, "-c", "user", "list", on)
	if err != nil {
		return err
	}
	id, is, err := account(string(list), user)
	if err != nil {
		return err
	}
	var steps [][]string
	if !is {
		steps = append(steps, []string{"user", "set", "name", id, user})
	}
	steps = append(steps,
		[]string{"user", "set", "password", id, password, size},
		[]string{"channel", "setaccess", on, id, "callin=on", "ipmi=on", "link=on", "privilege=4"},
		[]string{"user", "enable", id},
		[]string{"user", "test", id, size, password})
	for _, words := range steps {
		if _, err := b.tool([]string{password}, words...); err != nil {
			return err
		}
	}
	return nil
}

// account finds the user's number in ipmitool's list, or the first that nobody
// has: 1 is the user without a name.
func account(list, user string) (id string, is bool, err error) {
	r := csv.NewReader(strings.NewReader(list))
	r.FieldsPerRecord = -1
	rows, err := r.ReadAll()
	if err != nil {
		return "", false, fmt.Errorf("the list of users: %w", err)
	}
	for _, row := range rows {
		switch {
		case len(row) < 2:
		case row[1] == user:
			return row[0], true, nil
		case id == "" && row[0] != "1" && (row[1] == "" || row[1] == "(Empty User)"):
			id = row[0]
		}
	}
	if id == "" {
		return "", false, fmt.Errorf("the BMC has no place for the user %s: it has %d", user, len(rows))
	}
	return id, false, nil
}

// setup_network(channel, ip, netmask, gateway, vlan_id=-1) gives the BMC a static
// address, and restarts it.
func (b bmc) setupNetwork(args starlark.Tuple, kwargs []starlark.Tuple) error {
	channel, vlan := number(0), number(-1)
	var ip, netmask, gateway string
	if err := starlark.UnpackArgs("arguments", args, kwargs, "channel", &channel, "ip", &ip, "netmask", &netmask, "gateway", &gateway, "vlan_id?", &vlan); err != nil {
		return err
	}
	if err := b.await(); err != nil {
		return err
	}
	id := "off"
	if vlan >= 0 {
		id = strconv.Itoa(int(vlan))
	}
	set := []string{"lan", "set", strconv.Itoa(int(channel))}
	for _, words := range [][]string{{"ipsrc", "static"}, {"ipaddr", ip}, {"netmask", netmask}, {"defgw", "ipaddr", gateway}, {"vlan", "id", id}} {
		if _, err := b.tool(nil, append(set[:3:3], words...)...); err != nil {
			return err
		}
	}
	if _, err := b.tool(nil, append(set, "arp", "respond", "on")...); err != nil { // many BMCs do so anyway, and have no switch
		fmt.Fprintf(b.host.log(), "%v: left as it is\n", err)
	}
	return b.reset()
}

// restart_bmc() restarts the BMC.
func (b bmc) restart(args starlark.Tuple, kwargs []starlark.Tuple) error {
	if err := starlark.UnpackArgs("arguments", args, kwargs); err != nil {
		return err
	}
	if err := b.await(); err != nil {
		return err
	}
	return b.reset()
}

func (b bmc) reset() error {
	_, err := b.tool(nil, "mc", "reset", "cold")
	return err
}

// A BMC that was restarted does not answer for a minute or two.
const bmcPatience, bmcPause = 4 * time.Minute, 5 * time.Second

// await waits until the BMC answers.
func (b bmc) await() error {
	deadline := time.Now().Add(bmcPatience)
	for {
		_, err := b.tool(nil, "mc", "info")
		switch {
		case err == nil:
			return nil
		case errors.Is(err, exec.ErrNotFound):
			return errors.New("the initrd has no ipmitool")
		case strings.Contains(err.Error(), "Could not open device"):
			return errors.New("this machine has no BMC that the kernel knows (/dev/ipmi0)")
		case time.Now().After(deadline):
			return fmt.Errorf("the BMC does not answer for %s: %w", bmcPatience, err)
		}
		select {
		case <-b.ctx.Done():
			return context.Cause(b.ctx)
		case <-time.After(bmcPause):
		}
	}
}

// tool runs ipmitool. Words that are secret are shown as stars.
func (b bmc) tool(secret []string, words ...string) ([]byte, error) {
	c := command.Command{Argv: append([]string{"ipmitool"}, words...)}
	c.Shown = c.String()
	for _, s := range secret {
		c.Shown = strings.ReplaceAll(c.Shown, " "+s, " ***")
	}
	fmt.Fprintf(b.host.log(), "+ %s\n", c.Shown)
	return b.host.Run(b.ctx, c)
}
