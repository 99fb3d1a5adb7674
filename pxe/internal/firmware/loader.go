package firmware

import "fmt"

// Loader is the way from a boot ROM to a machine's script: the first program of
// it is what DHCP names. Its text is what settings and logs show.
type Loader string

// The loaders.
const (
	// LoaderIPXE is iPXE, which drives the card through the firmware that has just
	// used it; that works on more machines than iPXE's own drivers. It is not
	// signed.
	LoaderIPXE Loader = "ipxe"
	// LoaderGRUB is shim, which starts GRUB: both are signed for Secure Boot. There
	// is none for BIOS.
	LoaderGRUB Loader = "grub"
)

// files are what a loader is made of on a kind of firmware; the first is named
// to the firmware, and it asks for the others beside it.
var files = map[Loader]map[Kind][]string{
	LoaderIPXE: {BIOS: {"undionly.kpxe"}, UEFI: {"snponly.efi"}, UEFIHTTP: {"snponly.efi"}},
	LoaderGRUB: {UEFI: {"shimx64.efi", "grubx64.efi"}, UEFIHTTP: {"shimx64.efi", "grubx64.efi"}},
}

// Check refuses what is no loader. "" stands for LoaderIPXE.
func (l Loader) Check() error {
	if _, ok := files[l]; !ok && l != "" {
		return fmt.Errorf("loader %q: want %s or %s", l, LoaderIPXE, LoaderGRUB)
	}
	return nil
}

// Files are the files of the boot directory that the loader takes on a kind of
// firmware, the one that DHCP names first; nil for a kind that loads nothing.
// Where the loader has none, they are LoaderIPXE's.
func (l Loader) Files(kind Kind) []string {
	if names := files[l][kind]; names != nil {
		return names
	}
	return files[LoaderIPXE][kind]
}
