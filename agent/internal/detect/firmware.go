package detect

import (
	"context"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// UEFI's variables (UEFI specification 3.3 and 32.6) begin with four bytes of
// attributes.
const (
	efivars     = "sys/firmware/efi/efivars/"
	secureBoot  = efivars + "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c" // 1 where only signed loaders are started
	setupMode   = efivars + "SetupMode-8be4df61-93ca-11d2-aa0d-00e098032b8c"  // 1 where anybody may enrol keys
	allowed     = efivars + "db-d719b2cb-3d3a-4596-a3bc-dad00e67656f"         // who may sign loaders
	attributes4 = 4
)

// firmware is what the reference calls bios, and how the machine was started,
// which it does not have.
func firmware(_ context.Context, r reader, f *facts) error {
	f.add("firmware", "bios", "version", r.dmi("bios_version"))
	f.add("firmware", "bios", "date", r.dmi("bios_date"))
	f.add("firmware", "bios", "vendor", r.dmi("bios_vendor"))
	boot := func(field, value string) { f.add("firmware", "boot", field, value) }
	mode := "bios"
	if r.text("sys/firmware/efi/fw_platform_size") != "" {
		mode = "uefi"
	}
	boot("mode", mode)
	boot("secure", onOff(r, secureBoot))
	boot("setup-mode", onOff(r, setupMode))
	f.add("firmware", "bios", "release", r.text(dmi, "bios_release"))
	return signers(r, f)
}

// onOff is a variable of one byte.
func onOff(r reader, variable string) string {
	value, err := r.bytes(variable)
	if err != nil || len(value) != attributes4+1 {
		return ""
	}
	return map[bool]string{true: "on", false: "off"}[value[attributes4] == 1]
}

// microsoft are the certificates that Microsoft signs with, by year: loaders of
// others (shim, which Debian's GRUB needs) and its own.
var microsoft = map[string]struct{ field, year string }{
	"Microsoft Corporation UEFI CA 2011":    {"microsoft-uefi-ca", "2011"},
	"Microsoft UEFI CA 2023":                {"microsoft-uefi-ca", "2023"},
	"Microsoft Windows Production PCA 2011": {"microsoft-windows-ca", "2011"},
	"Windows UEFI CA 2023":                  {"microsoft-windows-ca", "2023"},
	"Microsoft Option ROM UEFI CA 2023":     {"microsoft-option-rom-ca", "2023"},
}

// signers are the certificates that may sign loaders: their names, and which of
// Microsoft's are among them.
func signers(r reader, f *facts) error {
	value, err := r.bytes(allowed)
	if err != nil {
		return unless(err, fs.ErrNotExist)
	}
	if len(value) < attributes4 {
		return errors.New("db of Secure Boot: shorter than its attributes")
	}
	certificates, err := certificates(value[attributes4:])
	for _, certificate := range certificates {
		name := certificate.Subject.CommonName
		f.add("secureboot", "db", "certificate", strings.ToValidUTF8(name, "?"))
		if known, ok := microsoft[name]; ok {
			f.add("secureboot", "db", known.field, known.year)
		}
	}
	return err
}

// x509GUID marks a list of certificates (EFI_CERT_X509_GUID) as it lies in memory.
const x509GUID = "\xa1\x59\xc0\xa5\xe4\x94\xa7\x4a\x87\xb5\xab\x15\x5c\x2b\xf0\x72"

// certificates reads lists of signatures (EFI_SIGNATURE_LIST, UEFI
// specification 32.4.1): a GUID, the sizes of list, header and signature, the
// header, then signatures that begin with the GUID of their owner.
func certificates(lists []byte) (found []*x509.Certificate, err error) {
	const head, owner = 28, 16
	var problems []error
	for len(lists) > 0 {
		if len(lists) < head {
			return found, errors.New("db of Secure Boot: it ends within a list")
		}
		size, header, each := field32(lists, 16), field32(lists, 20), field32(lists, 24)
		if size < head || size > uint64(len(lists)) || header > size-head || each <= owner {
			return found, fmt.Errorf("db of Secure Boot: the sizes of a list of %d bytes do not fit", size)
		}
		signatures := lists[head+header : size]
		for isX509 := string(lists[:16]) == x509GUID; isX509 && uint64(len(signatures)) >= each; signatures = signatures[each:] {
			certificate, err := x509.ParseCertificate(signatures[owner:each])
			if err != nil {
				problems = append(problems, fmt.Errorf("db of Secure Boot: %w", err))
				continue
			}
			found = append(found, certificate)
		}
		lists = lists[size:]
	}
	return found, errors.Join(problems...)
}

func field32(data []byte, at int) uint64 { return uint64(binary.LittleEndian.Uint32(data[at:])) }
