package detect

import (
	"strings"

	"github.com/jaypipes/ghw"
)

// system describes product, board and kernel (reference section 3.4), with the
// two names of the seed that later versions changed (section 3.2).
func system(r reader, f *facts, inv inventory) {
	product := func(field, value string) { f.add("system", "product", field, value) }
	product("serial", inv.product.SerialNumber)
	product("name", inv.product.Name)
	product("vendor", inv.product.Vendor)
	product("version", inv.product.Version)
	if uuid := inv.product.UUID; !strings.Contains(uuid, "Not") { // Not Settable, Not Present
		product("uuid", strings.ToLower(uuid))
	}
	board := func(field, value string) { f.add("system", "motherboard", field, value) }
	board("name", inv.board.Product)
	board("vendor", inv.board.Vendor)
	board("version", inv.board.Version)
	board("serial", inv.board.SerialNumber)
	f.add("system", "board", "serial", inv.board.SerialNumber)
	if n := inv.cpu.TotalHardwareThreads; n > 0 {
		f.add("system", "cpu", "number", decimal(n))
	}
	f.add("system", "kernel", "version", r.text("proc/sys/kernel/osrelease"))
	f.add("system", "kernel", "arch", r.text("proc/sys/kernel/arch"))
	f.add("system", "kernel", "cmdline", r.text("proc/cmdline"))
}

func firmware(f *facts, bios *ghw.BIOSInfo) {
	f.add("firmware", "bios", "version", bios.Version)
	f.add("firmware", "bios", "date", bios.Date)
	f.add("firmware", "bios", "vendor", bios.Vendor)
}
