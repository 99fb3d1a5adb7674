package detect

import (
	"context"
	"strings"
)

// dmi is where the kernel has the texts of the firmware's tables.
const dmi = "sys/class/dmi/id"

// system describes product, board and kernel (reference section 3.4), with the
// two names of the seed that later versions changed (section 3.2).
func system(_ context.Context, r reader, f *facts) error {
	product := func(field, value string) { f.add("system", "product", field, value) }
	if r.exists(dmi) {
		product("serial", r.dmi("product_serial"))
		product("name", r.dmi("product_name"))
		product("vendor", r.dmi("sys_vendor"))
		product("version", r.dmi("product_version"))
	} else { // boards without SMBIOS
		product("serial", r.text("sys/firmware/devicetree/base/serial-number"))
		product("name", r.text("sys/firmware/devicetree/base/model"))
	}
	if uuid := r.dmi("product_uuid"); !strings.Contains(uuid, "Not") { // Not Settable, Not Present
		product("uuid", strings.ToLower(uuid))
	}
	board := func(field, value string) { f.add("system", "motherboard", field, value) }
	board("name", r.dmi("board_name"))
	board("vendor", r.dmi("board_vendor"))
	board("version", r.dmi("board_version"))
	board("serial", r.dmi("board_serial"))
	f.add("system", "board", "serial", r.dmi("board_serial"))
	if n := threads(sockets(r)); n > 0 {
		f.count("system", "cpu", "number", n)
	}
	f.add("system", "kernel", "version", r.text("proc/sys/kernel/osrelease"))
	f.add("system", "kernel", "arch", r.text("proc/sys/kernel/arch"))
	f.add("system", "kernel", "cmdline", r.text("proc/cmdline"))
	f.add("system", "product", "sku", r.dmi("product_sku"))
	f.add("system", "product", "family", r.dmi("product_family"))
	f.add("system", "chassis", "type", r.dmi("chassis_type"))
	f.add("system", "chassis", "asset-tag", r.dmi("chassis_asset_tag"))
	return nil
}
