package firmware

import (
	"fmt"
	"slices"
)

// Loader is the way from a boot ROM to a machine's script: the first program of
// it is what DHCP names. Its text is what settings and logs show.
type Loader string

// The loaders.
const (
	// LoaderIPXE is iPXE, which drives the card through the firmware that has just
	// used it; that works on more machines than iPXE's own drivers. It is not
	// signed.
	LoaderIPXE Loader = "ipxe"
	// LoaderIPXENative is iPXE with drivers of its own, for machines whose firmware
	// drives the card badly.
	LoaderIPXENative Loader = "ipxe-native"
	// LoaderGRUB is shim, which starts GRUB: both are signed for Secure Boot. There
	// is none for BIOS.
	LoaderGRUB Loader = "grub"
	// LoaderHTTP is none, for UEFI PXE: the firmware goes on with its next boot
	// entry, and gets its loader by HTTP boot.
	LoaderHTTP Loader = "http"
)

// ladders are the loaders of a kind of firmware, in the order in which they are
// tried.
var ladders = map[Kind][]Loader{
	BIOS:     {LoaderIPXE, LoaderIPXENative},
	UEFI:     {LoaderIPXE, LoaderIPXENative, LoaderGRUB, LoaderHTTP},
	UEFIHTTP: {LoaderIPXE, LoaderIPXENative, LoaderGRUB},
}

// Ladder is the loaders for a kind of firmware, first first when it is one of
// them; nil for a kind that loads nothing.
func Ladder(kind Kind, first Loader) []Loader {
	all := slices.Clone(ladders[kind])
	if i := slices.Index(all, first); i > 0 {
		all = slices.Insert(slices.Delete(all, i, i+1), 0, first)
	}
	return all
}

// Kinds are the kinds of firmware that load something.
func Kinds() []Kind { return []Kind{BIOS, UEFI, UEFIHTTP} }

// files are what a loader is made of on a kind of firmware; the first is named
// to the firmware, and it asks for the others beside it.
var files = map[Loader]map[Kind][]string{
	LoaderIPXE:       {BIOS: {"undionly.kpxe"}, UEFI: {"snponly.efi"}, UEFIHTTP: {"snponly.efi"}},
	LoaderIPXENative: {BIOS: {"ipxe.pxe"}, UEFI: {"ipxe.efi"}, UEFIHTTP: {"ipxe.efi"}},
	LoaderGRUB:       {UEFI: {"shimx64.efi", "grubx64.efi"}, UEFIHTTP: {"shimx64.efi", "grubx64.efi"}},
}

// Check refuses what is no loader. "" stands for LoaderIPXE.
func (l Loader) Check() error {
	if _, ok := files[l]; !ok && l != "" {
		return fmt.Errorf("loader %q: want %s, %s or %s", l, LoaderIPXE, LoaderIPXENative, LoaderGRUB)
	}
	return nil
}

// Files are the files of the boot directory that the loader takes on a kind of
// firmware, the one that DHCP names first; nil for a kind that loads nothing.
// Where the loader has none, they are LoaderIPXE's. LoaderHTTP has none for UEFI.
func (l Loader) Files(kind Kind) []string {
	if l == LoaderHTTP && kind == UEFI {
		return nil
	}
	if names := files[l][kind]; names != nil {
		return names
	}
	return files[LoaderIPXE][kind]
}
