package machine

import (
	"encoding/hex"
	"net"
	"slices"
	"strings"
	"unicode/utf8"

	"edeploy/server/wire"
)

// placeholderSerials are texts that board makers leave in the serial field,
// lower case, as dmidecode and /sys/class/dmi/id show them on real machines.
var placeholderSerials = []string{
	"", "none", "null", "n/a", "na", "unknown", "invalid", "default", "default string", "empty",
	"to be filled by o.e.m.", "to be filled by o.e.m", "to be filled", "o.e.m.", "oem",
	"not specified", "not settable", "not present", "not available", "not applicable", "no asset tag",
	"system serial number", "serial number", "system product name", "base board serial number", "chassis serial number",
	"sernum", "ssn", "sn", "asset", "test", "123", "1234", "12345", "123456", "1234567", "12345678", "123456789", "1234567890",
	"0123456789", "0123456789abcdef", "01234567890123456789", "987654321", "9876543210", "abcdefghij",
	"mb-1234567890", "bss-0123456789", "chassis serial", "type2 - board serial number", "type1productserialnumber",
}

// placeholderUUIDs are constants of firmware images: AMI's default first.
var placeholderUUIDs = []string{
	"03000200-0400-0500-0006-000700080009",
	"00020003-0004-0005-0006-000700080009",
	"12345678-1234-5678-90ab-cddeefaabbcc",
	"12345678-1234-5678-1234-567812345678",
	"01234567-89ab-cdef-0123-456789abcdef",
	"00010203-0405-0607-0809-0a0b0c0d0e0f",
	"00112233-4455-6677-8899-aabbccddeeff",
	"11111111-2222-3333-4444-555555555555",
	"fefefefe-fefe-fefe-fefe-fefefefefefe",
	"deadbeef-dead-beef-dead-beefdeadbeef",
}

// genuineSerial is the serial in one form, "" when it is none.
func genuineSerial(s string) string {
	s = strings.ToLower(strings.Join(strings.Fields(s), " "))
	if slices.Contains(placeholderSerials, s) || oneCharacter(s) {
		return ""
	}
	return s
}

// Genuine tells whether a serial is none of the texts that board makers leave in.
func Genuine(serial string) bool { return genuineSerial(serial) != "" }

// GenuineMAC tells whether an address can belong to one adapter only.
func GenuineMAC(mac string) bool { return len(genuineMACs([]string{mac})) == 1 }

// oneCharacter: "0000000000", "XXXXXXXX", "........", "- - -".
func oneCharacter(s string) bool {
	s = strings.ReplaceAll(s, " ", "")
	_, size := utf8.DecodeRuneInString(s)
	return strings.Trim(s, s[:size]) == ""
}

// genuineUUID is the UUID in one form, "" when it is none. SMBIOS 2.6 turned
// the byte order of the first three fields around, so one machine shows both
// forms, depending on who asks (PXE option 97, dmidecode, sysfs); they count
// as the same.
func genuineUUID(s string) string {
	raw, ok := parseUUID(s)
	if !ok || oneByte(raw) || placeholderUUID(raw) {
		return ""
	}
	return min(string(raw), string(swapped(raw)))
}

func parseUUID(s string) ([]byte, bool) {
	s = strings.Trim(strings.TrimSpace(s), "{}")
	raw, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	return raw, err == nil && len(raw) == 16
}

func oneByte(raw []byte) bool {
	return !slices.ContainsFunc(raw, func(b byte) bool { return b != raw[0] })
}

func placeholderUUID(raw []byte) bool {
	for _, text := range placeholderUUIDs {
		known, _ := parseUUID(text)
		if slices.Equal(raw, known) || slices.Equal(swapped(raw), known) {
			return true
		}
	}
	return false
}

func swapped(raw []byte) []byte {
	u := slices.Clone(raw)
	slices.Reverse(u[0:4])
	slices.Reverse(u[4:6])
	slices.Reverse(u[6:8])
	return u
}

// genuineMACs are the addresses that can belong to one adapter only: no zero,
// no broadcast or multicast address, each once, in their order.
func genuineMACs(macs []string) []string {
	var good []string
	seen := map[string]bool{}
	for _, text := range macs {
		text = wire.NormalMAC(text)
		mac, err := net.ParseMAC(text)
		if err != nil || mac[0]&1 != 0 || oneByte(mac) && mac[0] == 0 || seen[text] {
			continue
		}
		seen[text] = true
		good = append(good, text)
	}
	return good
}
