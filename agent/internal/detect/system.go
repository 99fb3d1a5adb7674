package detect

import (
	"strconv"
	"strings"
)

const dmi = "sys/class/dmi/id"

// field binds a field to the file it comes from.
type field struct{ name, file string }

func (f *facts) addFiles(r reader, dir, category, id string, fields ...field) {
	for _, field := range fields {
		f.add(category, id, field.name, r.text(dir, field.file))
	}
}

// system describes product, board and kernel (reference section 3.4), with the
// two names of the seed that later versions changed (section 3.2).
func system(r reader, f *facts) {
	f.addFiles(r, dmi, "system", "product",
		field{"serial", "product_serial"}, field{"name", "product_name"},
		field{"vendor", "sys_vendor"}, field{"version", "product_version"})
	if uuid := r.text(dmi, "product_uuid"); !strings.Contains(uuid, "Not") { // Not Settable, Not Present
		f.add("system", "product", "uuid", strings.ToLower(uuid))
	}
	f.addFiles(r, dmi, "system", "motherboard",
		field{"name", "board_name"}, field{"vendor", "board_vendor"},
		field{"version", "board_version"}, field{"serial", "board_serial"})
	f.add("system", "board", "serial", r.text(dmi, "board_serial"))
	if n := len(cpuinfo(r)); n > 0 {
		f.add("system", "cpu", "number", strconv.Itoa(n))
	}
	f.addFiles(r, "proc", "system", "kernel",
		field{"version", "sys/kernel/osrelease"}, field{"arch", "sys/kernel/arch"}, field{"cmdline", "cmdline"})
}

func firmware(r reader, f *facts) {
	f.addFiles(r, dmi, "firmware", "bios",
		field{"version", "bios_version"}, field{"date", "bios_date"}, field{"vendor", "bios_vendor"})
}
