package wire

import "strings"

// LogName names the uploaded log of a machine: VENDOR-PRODUCT-SERIAL.log.gz (reference section 2.1 step 3).
func LogName(hw Hardware) string {
	value := func(field string) string {
		v, _ := hw.Find("system", "product", field)
		return plain(v)
	}
	serial := value("serial")
	if serial == "" || serial == "0123456789" || serial == "0000000000" {
		serial = value("uuid")
	}
	if id := hw.Identity(); serial == "" && len(id.MACs) > 0 {
		serial = strings.ReplaceAll(id.MACs[0], ":", "_") // nothing else tells machines apart
	}
	return value("vendor") + "-" + value("name") + "-" + serial + ".log.gz"
}

// plain replaces runs of characters outside [A-Za-z0-9.] by one "_", and
// removes it at both ends.
func plain(s string) string {
	words := strings.FieldsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.')
	})
	return strings.Join(words, "_")
}
