package detect

import (
	"io/fs"
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

// secureBoot is UEFI's variable of this name (UEFI specification 3.3): four
// bytes of attributes, and 1 where only signed loaders are started.
const secureBoot = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"

// firmware is what the reference calls bios, and how the machine was started,
// which it does not have.
func firmware(r reader, f *facts, bios *ghw.BIOSInfo) {
	f.add("firmware", "bios", "version", bios.Version)
	f.add("firmware", "bios", "date", bios.Date)
	f.add("firmware", "bios", "vendor", bios.Vendor)
	mode := "bios"
	if r.text("sys/firmware/efi/fw_platform_size") != "" {
		mode = "uefi"
	}
	f.add("firmware", "boot", "mode", mode)
	if value, err := fs.ReadFile(r.root, secureBoot); err == nil && len(value) == 5 {
		f.add("firmware", "boot", "secure", map[bool]string{true: "on", false: "off"}[value[4] == 1])
	}
}
