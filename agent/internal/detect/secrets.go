package detect

import (
	"encoding/hex"
	"maps"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/u-root/u-root/pkg/smbios"
)

// How many characters of an address are its vendor's, and stay.
const (
	vendorOfMAC  = 6
	vendorOfName = 7 // World Wide Names and GUIDs: the form, then the vendor
)

// Forms of secrets.
var (
	ipv4    = regexp.MustCompile(`\b[0-9]{1,3}(\.[0-9]{1,3}){3}\b`)
	ipv6    = regexp.MustCompile(`(?i)\b[0-9a-f]{1,4}:[0-9a-f:]+\b`)
	macForm = regexp.MustCompile(`(?i)\b[0-9a-f]{2}([:-][0-9a-f]{2}){5}\b`)
	uuid    = regexp.MustCompile(`(?i)\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b`)

	// Names of files that hold a secret, and those that hold a vendor's address.
	secretFile = regexp.MustCompile(`(^|_)serial$|^serial[_-]number$|_uuid$|^uuid$|^asset_tag$|_asset_tag$`)
	namedFile  = regexp.MustCompile(`^(wwid|nguid|eui|sys_image_guid|node_guid)$|/gids/[0-9]+$`)

	// Lines of programs: "Serial Number: W470XXXX", "WWID: 5000...", "(sn: P...)".
	secretLine  = regexp.MustCompile(`(?im)^[^:=|\n]*\b(serial|community|asset tag)\b[^:=\n]*[:=][ \t]*(.+?)[ \t]*$|\(sn: ([^)]+)\)`)
	namedLine   = regexp.MustCompile(`(?im)^[^:=|\n]*\b(wwn|wwid|logical unit id|sas address|guid)\b[^:=\n]*[:=][ \t]*(.+?)[ \t]*$`)
	inquiryLine = regexp.MustCompile(`(?im)^inquiry data[ \t]*:[ \t]*(.+?)[ \t]*$`)
	switchName  = regexp.MustCompile(`(?m)^System Name TLV\n\t(.+)$`)
	switchIP    = regexp.MustCompile(`(?m)^\tIPv[46]: (\S+)$`)
	ipLine      = regexp.MustCompile(`(?im)^[^:=|\n]*\b(ip address|gateway)\b[^:=\n]*[:=][ \t]*(.+?)[ \t]*$`)
)

// collect finds what is to be replaced. Files come in the order of their names,
// so that the same key makes the same.
func (a *anonymizer) collect(rec Recording) {
	var addresses []netip.Addr
	for _, list := range rec.Addresses {
		for _, prefix := range list {
			addresses = append(addresses, prefix.Addr())
		}
	}
	for _, name := range slices.Sorted(maps.Keys(rec.Files)) {
		a.file(name, rec.Files[name])
	}
	for _, name := range slices.Sorted(maps.Keys(rec.Binary)) {
		a.file(name, string(rec.Binary[name]))
	}
	cmdline := rec.Files["proc/cmdline"]
	addresses = append(addresses, addressesIn(cmdline)...)
	a.forms(cmdline)
	for _, name := range slices.Sorted(maps.Keys(rec.Links)) {
		if path.Dir(name) == "dev/disk/by-id" {
			a.diskID(path.Base(name))
		}
	}
	for _, command := range slices.Sorted(maps.Keys(rec.Programs)) {
		text := rec.Programs[command].Text
		a.lines(text)
		for _, line := range ipLine.FindAllString(text, -1) {
			addresses = append(addresses, addressesIn(line)...)
		}
	}
	for _, disk := range slices.Sorted(maps.Keys(rec.NVMe)) {
		if identify := rec.NVMe[disk].Identify; len(identify) >= 24 {
			a.hide(string(identify[4:24]), 0)
		}
	}
	for _, device := range slices.Sorted(maps.Keys(rec.LLDP)) {
		addresses = append(addresses, a.neighbour(rec.LLDP[device])...)
	}
	a.network(addresses)
}

func (a *anonymizer) file(name, content string) {
	base, text := path.Base(name), strings.TrimSpace(content)
	switch {
	case name == dmiTables:
		a.tables(content)
	case base == "vpd_pg80" && len(content) > 4:
		a.hide(content[4:], 0)
	case base == "vpd_pg83":
		a.page(content)
	case namedFile.MatchString(name) || namedFile.MatchString(base):
		a.named(text)
	case secretFile.MatchString(base):
		a.hide(text, 0)
	case base == "address" && strings.Contains(name, "/net/"):
		a.hide(text, vendorOfMAC)
	}
}

// named hides a World Wide Name: naa.5000c500..., eui.0025..., 0x5000..., with
// or without separators.
func (a *anonymizer) named(text string) {
	for _, prefix := range []string{"naa.", "eui.", "uuid.", "0x"} {
		text = strings.TrimPrefix(text, prefix)
	}
	if strings.Trim(string(plain([]byte(text)).word), "0123456789abcdef") == "" {
		a.hide(text, vendorOfName)
	}
}

// page hides the names in the vital product data page 0x83.
func (a *anonymizer) page(content string) {
	for rest := strings.TrimPrefix(content, content[:min(4, len(content))]); len(rest) >= 4 && len(rest) >= 4+int(rest[3]); rest = rest[4+int(rest[3]):] {
		if rest[1]&15 == 3 || rest[1]&15 == 2 { // NAA, EUI-64
			a.named(hex.EncodeToString([]byte(rest[4 : 4+int(rest[3])])))
		}
	}
}

// diskID hides what a link in /dev/disk/by-id says of the one disk.
func (a *anonymizer) diskID(id string) {
	kind, rest, _ := strings.Cut(id, "-")
	switch {
	case kind == "wwn":
		a.named(rest)
	case kind == "scsi" && strings.HasPrefix(rest, "3"):
		a.named(rest[1:])
	case kind == "nvme" && strings.HasPrefix(rest, "eui."):
		a.named(rest)
	case kind == "nvme" && strings.HasPrefix(rest, "nvme."): // it is made of the serial number
	case kind == "virtio":
		a.hide(rest, 0)
	case strings.Contains(rest, "_"):
		a.hide(rest[strings.LastIndex(rest, "_")+1:], 0)
	}
}

// lines hides what programs say.
func (a *anonymizer) lines(text string) {
	for _, found := range secretLine.FindAllStringSubmatch(text, -1) {
		a.hide(found[2]+found[3], 0)
	}
	for _, found := range inquiryLine.FindAllStringSubmatch(text, -1) {
		a.inquiry(strings.Fields(found[1]))
	}
	for _, found := range namedLine.FindAllStringSubmatch(text, -1) {
		a.named(strings.ReplaceAll(found[2], " ", "")) // "5 000c50 012345678"
	}
	for _, mac := range macForm.FindAllString(text, -1) {
		a.hide(mac, vendorOfMAC)
	}
}

// inquiry hides the serial number in what a disk answers to INQUIRY: SAS disks
// have vendor, model, then revision and serial number together; SATA disks
// serial number and vendor together, model, revision.
func (a *anonymizer) inquiry(words []string) {
	const revisionAndSerial = 10
	for i, word := range words {
		if (i == 0 || i == len(words)-1) && len(word) >= revisionAndSerial {
			a.hide(word, 0)
		}
	}
}

// forms hides what looks like an address or a UUID in the command line.
func (a *anonymizer) forms(text string) {
	for _, found := range uuid.FindAllString(text, -1) {
		a.hide(found, 0)
	}
	for _, mac := range regexp.MustCompile(`(?i)\b(?:01-)?([0-9a-f]{2}(?:[:-][0-9a-f]{2}){5})\b`).FindAllStringSubmatch(text, -1) { // BOOTIF=01-...
		a.hide(mac[1], vendorOfMAC)
	}
}

// neighbour hides who a switch is, and answers its addresses.
func (a *anonymizer) neighbour(text string) (addresses []netip.Addr) {
	a.lines(text)
	for _, name := range switchName.FindAllStringSubmatch(text, -1) {
		a.hide(name[1], 0)
	}
	for _, ip := range switchIP.FindAllStringSubmatch(text, -1) {
		if address, err := netip.ParseAddr(ip[1]); err == nil {
			addresses = append(addresses, address)
		}
	}
	return addresses
}

// secretStrings are where SMBIOS tables (DMTF DSP0134) have serial numbers and
// asset tags.
var secretStrings = map[smbios.TableType][]int{
	1: {0x07}, 2: {0x07, 0x08}, 3: {0x07, 0x08}, 4: {0x20, 0x21}, 17: {0x18, 0x19}, 39: {0x08, 0x09},
}

// uuidOfSystem is where table 1 has the system's UUID.
const uuidOfSystem = 0x08

func (a *anonymizer) tables(content string) {
	for data := []byte(content); len(data) > 0; {
		table, rest, _ := parsed(func() (*smbios.Table, []byte, error) { return smbios.ParseTable(data) })
		if table == nil || len(rest) >= len(data) {
			return
		}
		for _, at := range secretStrings[table.Type] {
			if text, err := table.GetStringAt(at); err == nil {
				a.hide(specified(text), 0)
			}
		}
		if id, err := table.GetBytesAt(uuidOfSystem, 16); err == nil && table.Type == smbios.TableTypeSystemInfo {
			a.hide(hex.EncodeToString(mixed(id)), 0)
		}
		data = rest
	}
}

func addressesIn(text string) (found []netip.Addr) {
	for _, word := range ipv4.FindAllString(text, -1) {
		if address, err := netip.ParseAddr(word); err == nil {
			found = append(found, address)
		}
	}
	return found
}

// network gives IP addresses those for tests (RFC 2544, RFC 3849): a number of
// its own for each network of 256, and the last part stays.
func (a *anonymizer) network(addresses []netip.Addr) {
	slices.SortFunc(addresses, netip.Addr.Compare)
	networks := map[netip.Prefix]byte{}
	for _, old := range slices.Compact(addresses) {
		switch {
		case old.IsLoopback() || old.IsUnspecified() || old.Is4() && old.As4()[0] == 255:
		case old.Is4():
			prefix, _ := old.Prefix(24)
			if _, known := networks[prefix]; !known {
				networks[prefix] = byte(len(networks))
			}
			a.addresses[old] = netip.AddrFrom4([4]byte{198, 18, networks[prefix], old.As4()[3]})
		default:
			other := netip.MustParseAddr("2001:db8::").As16()
			if old.IsLinkLocalUnicast() {
				other = netip.MustParseAddr("fe80::").As16()
			}
			other[14], other[15] = byte(len(a.addresses)>>8), byte(len(a.addresses))
			a.addresses[old] = netip.AddrFrom16(other)
		}
	}
}
