package detect

import (
	"context"
	"fmt"
	"path"
	"strconv"
	"strings"
)

// infiniband describes InfiniBand cards as ibstat does (reference section 3.7),
// but from sysfs. physical_state is the state of the link: the original repeats
// state there.
func infiniband(_ context.Context, r reader, f *facts) error {
	for i, dir := range r.glob("sys/class/infiniband/*") {
		id := "card" + strconv.Itoa(i)
		add := func(field, value string) { f.add("infiniband", id, field, value) }
		ports := r.glob(dir, "ports/*")
		add("card_type", path.Base(dir))
		add("device_type", r.text(dir, "hca_type"))
		add("fw_version", r.text(dir, "fw_ver"))
		add("hw_version", strings.TrimPrefix(r.text(dir, "hw_rev"), "0x"))
		add("nb_ports", strconv.Itoa(len(ports)))
		add("sys_guid", guid(r.text(dir, "sys_image_guid")))
		add("node_guid", guid(r.text(dir, "node_guid")))
		for _, port := range ports {
			infinibandPort(r, f, fmt.Sprintf("%s_port%s", id, path.Base(port)), port)
		}
	}
	return nil
}

func infinibandPort(r reader, f *facts, id, dir string) {
	add := func(field, value string) { f.add("infiniband", id, field, value) }
	add("state", state(r.text(dir, "state")))
	add("physical_state", state(r.text(dir, "phys_state")))
	rate, _, _ := strings.Cut(r.text(dir, "rate"), " ")
	add("rate", rate)
	add("base_lid", fromHex(r.text(dir, "lid")))
	add("lmc", r.text(dir, "lid_mask_count"))
	add("sm_lid", fromHex(r.text(dir, "sm_lid")))
	if gid := r.text(dir, "gids/0"); len(gid) == len("fe80:0000:0000:0000:0002:c903:00ea:6841") {
		add("port_guid", guid(gid[20:]))
	}
}

// state is the name in "4: ACTIVE", as ibstat writes it: Active; LinkUp stays.
func state(text string) string {
	_, name, _ := strings.Cut(text, ": ")
	if name == strings.ToUpper(name) && name != "" {
		return name[:1] + strings.ToLower(name[1:])
	}
	return name
}

// guid writes 0002:c903:00ea:6840 as 0x0002c90300ea6840.
func guid(text string) string {
	if text == "" {
		return ""
	}
	return "0x" + strings.ReplaceAll(text, ":", "")
}

func fromHex(text string) string {
	n, err := strconv.ParseUint(strings.TrimPrefix(text, "0x"), 16, 32)
	if err != nil {
		return ""
	}
	return decimal(n)
}
