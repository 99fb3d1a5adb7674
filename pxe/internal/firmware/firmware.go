// Package firmware tells from four DHCP options what kind of program is asking
// for an address: a boot ROM, an iPXE, or an operating system.
//
// The options are 60 (vendor class, RFC 2132 section 9.13), 77 (user class,
// RFC 3004), 93 (client architecture) and 97 (machine UUID, both RFC 4578).
// iPXE's own option 175 says what its build can do.
package firmware

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Kind is the kind of program that asks. Its text is what logs show.
type Kind string

// The kinds.
const (
	Plain    Kind = "plain"         // an operating system or the agent: an address, nothing to boot
	BIOS     Kind = "bios"          // legacy PXE ROM
	UEFI     Kind = "uefi-x64"      // UEFI PXE, x86-64
	UEFIHTTP Kind = "uefi-x64-http" // UEFI HTTP boot, x86-64
	IPXE     Kind = "ipxe"          // iPXE that speaks HTTP, on any firmware
	Unknown  Kind = "unknown"       // a boot ROM of an architecture that nothing here boots
)

// Client is who asks.
type Client struct {
	Kind Kind
	Arch int    // option 93, -1 when the client does not say
	UUID string // SMBIOS system UUID in lower case, "" when it is not given or a placeholder
}

// Options are the raw values of the DHCP options that decide; nil when absent.
type Options struct {
	VendorClass []byte // 60
	UserClass   []byte // 77
	Arch        []byte // 93
	UUID        []byte // 97
	IPXE        []byte // 175
}

// Architectures of RFC 4578 section 2.1 and the IANA registry "Processor
// Architecture Types".
const (
	archBIOS = 0
	// RFC 4578 gives 7 to "EFI BC" and 9 to "EFI x86-64"; nearly all x86-64
	// firmware sends 7 (OVMF too), and the registry now follows it.
	archX64     = 7
	archX64Old  = 9
	archX64HTTP = 16
)

// refused are the architectures that machines ask for and nothing here boots:
// the agent is a program for x86-64. Of the registry's list (RFC 4578 section
// 2.1, RFC 5970 and later) these have firmware that boots over a network.
var refused = map[int]string{
	2:  "Itanium UEFI",
	6:  "32-bit UEFI",
	10: "32-bit ARM UEFI",
	11: "64-bit ARM UEFI",
	12: "PowerPC Open Firmware",
	13: "PowerPC ePAPR",
	14: "POWER OPAL",
	15: "32-bit UEFI HTTP boot",
	17: "EFI byte code HTTP boot",
	18: "32-bit ARM UEFI HTTP boot",
	19: "64-bit ARM UEFI HTTP boot",
	20: "HTTP boot without UEFI",
	21: "32-bit ARM U-Boot",
	22: "64-bit ARM U-Boot",
	23: "32-bit ARM U-Boot HTTP boot",
	24: "64-bit ARM U-Boot HTTP boot",
	25: "32-bit RISC-V UEFI",
	26: "32-bit RISC-V UEFI HTTP boot",
	27: "64-bit RISC-V UEFI",
	28: "64-bit RISC-V UEFI HTTP boot",
	31: "s390",
	32: "s390",
	37: "32-bit LoongArch UEFI",
	38: "32-bit LoongArch UEFI HTTP boot",
	39: "64-bit LoongArch UEFI",
	40: "64-bit LoongArch UEFI HTTP boot",
	41: "Raspberry Pi",
}

// ArchName is the client's architecture for people: "64-bit ARM UEFI
// (architecture 11): only x86-64 is booted".
func (c Client) ArchName() string {
	name := fmt.Sprintf("architecture %d", c.Arch)
	if text, ok := refused[c.Arch]; ok {
		name = fmt.Sprintf("%s (%s): only x86-64 is booted", text, name)
	}
	return name
}

// Identify tells who asks. It accepts any bytes.
func Identify(o Options) Client {
	c := Client{Kind: Plain, Arch: arch(o), UUID: UUID(o.UUID)}
	class := string(o.VendorClass)
	pxe, http := strings.HasPrefix(class, "PXEClient"), strings.HasPrefix(class, "HTTPClient")
	switch _, no := refused[c.Arch]; {
	case no:
		c.Kind = Unknown
	case isIPXE(o.UserClass) && hasHTTP(o.IPXE):
		// Also without "PXEClient": some iPXE builds send another vendor class.
		c.Kind = IPXE
	case pxe:
		c.Kind = pxeKind(c.Arch)
	case http:
		c.Kind = httpKind(c.Arch)
	}
	return c
}

func pxeKind(arch int) Kind {
	switch arch {
	case archBIOS, -1: // some old ROMs send "PXEClient" and no architecture at all
		return BIOS
	case archX64, archX64Old:
		return UEFI
	}
	return Unknown
}

func httpKind(arch int) Kind {
	if arch == archX64HTTP {
		return UEFIHTTP
	}
	return Unknown
}

// arch reads option 93, a list of 16-bit numbers of which the first counts,
// else the "Arch" part of "PXEClient:Arch:00007:UNDI:003000".
func arch(o Options) int {
	if len(o.Arch) >= 2 {
		return int(binary.BigEndian.Uint16(o.Arch))
	}
	_, rest, ok := strings.Cut(string(o.VendorClass), ":Arch:")
	if !ok {
		return -1
	}
	digits, _, _ := strings.Cut(rest, ":")
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil {
		return -1
	}
	return int(n)
}

// isIPXE looks for the user class "iPXE". iPXE sends the bare word, against
// RFC 3004, which wants a list of length-prefixed words; both are understood.
func isIPXE(userClass []byte) bool {
	const word = "iPXE"
	if string(userClass) == word {
		return true
	}
	for len(userClass) > 0 {
		n := int(userClass[0])
		if n+1 > len(userClass) {
			return false
		}
		if string(userClass[1:n+1]) == word {
			return true
		}
		userClass = userClass[n+1:]
	}
	return false
}

// featureHTTP is iPXE's feature tag DHCP_EB_FEATURE_HTTP.
const featureHTTP = 0x13

// hasHTTP tells whether an iPXE can fetch its script over HTTP. An iPXE in a
// network card's flash may be built without: it is then only good enough to
// load our own over TFTP. Without the option 175 it gets the benefit of doubt.
func hasHTTP(encapsulated []byte) bool {
	if len(encapsulated) == 0 {
		return true
	}
	for rest := encapsulated; len(rest) > 0 && rest[0] != 255; {
		tag := rest[0]
		if tag == 0 { // padding
			rest = rest[1:]
			continue
		}
		if len(rest) < 2 || len(rest) < 2+int(rest[1]) {
			return false
		}
		if tag == featureHTTP {
			return true
		}
		rest = rest[2+int(rest[1]):]
	}
	return false
}

// UUID reads option 97: a zero byte and the 16 bytes of the SMBIOS UUID, whose
// first three fields are little-endian (SMBIOS section 7.2.1). All-zero and
// all-one values, which mean "not set", and other forms give "".
func UUID(option []byte) string {
	if len(option) != 17 || option[0] != 0 {
		return ""
	}
	u := option[1:]
	if isFill(u, 0x00) || isFill(u, 0xff) {
		return ""
	}
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x",
		binary.LittleEndian.Uint32(u), binary.LittleEndian.Uint16(u[4:]), binary.LittleEndian.Uint16(u[6:]), u[8:10], u[10:16])
}

func isFill(b []byte, fill byte) bool {
	return !slices.ContainsFunc(b, func(c byte) bool { return c != fill })
}
