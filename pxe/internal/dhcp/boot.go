package dhcp

import (
	"edeploy/pxe/internal/firmware"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// optionIPXE is iPXE's own option: settings encapsulated as options.
const optionIPXE = dhcpv4.GenericOptionCode(175)

// nothing is what a client that boots nothing here is told.
type nothing string

func (n nothing) Error() string { return "nothing to boot" + string(n) }

// bootOptions adds what the client can boot to the reply, and says what it is;
// "" for a client that does not ask. The error is why there is nothing.
func (q *question) bootOptions() (string, error) {
	kind := q.Client.Kind
	switch kind {
	case firmware.Plain:
		if q.Runs != nil {
			q.Runs(q.MAC.String(), q.Client.UUID)
		}
		return "", nil
	case firmware.IPXE:
		q.script()
		return "its boot script", nil
	case firmware.Unknown:
		return "", nothing(" for " + q.Client.ArchName())
	}
	files := q.loader().Files(kind)
	if len(files) == 0 {
		return "", nothing(", so that its firmware goes on to HTTP boot")
	}
	for _, name := range files {
		if !q.HasFile(name) {
			return "", nothing(", because the boot directory has no " + name)
		}
	}
	if kind == firmware.UEFIHTTP {
		q.httpLoader(files[0])
	} else {
		q.tftpLoader(files[0])
	}
	return "the loader " + files[0], nil
}

// loader is what the machine's firmware is to start.
func (q *question) loader() firmware.Loader {
	if q.Loader == nil {
		return firmware.LoaderIPXE
	}
	return q.Loader(Firmware{
		MAC: q.MAC.String(), UUID: q.Client.UUID, Kind: q.Client.Kind, Link: q.link(), Transaction: q.req.TransactionID,
		First: q.Answer.Request == dhcpv4.MessageTypeDiscover, Last: q.proxy || q.Answer.Request == dhcpv4.MessageTypeRequest,
	})
}

// script sends iPXE to its script. The machine's names are filled in here and
// not by iPXE: DHCP knows which of the machine's cards asked.
func (q *question) script() {
	q.bootFile(q.ScriptURL(q.MAC.String(), q.Client.UUID))
	if q.proxy {
		q.Reply.UpdateOption(dhcpv4.OptClassIdentifier("PXEClient")) // what makes it a proxy's offer
		// DHCP_EB_PRIORITY above 0, which others have: else the server that answers
		// last counts as the proxy (dnsmasq's offers look like one), and its boot
		// file comes first.
		q.Reply.UpdateOption(dhcpv4.OptGeneric(optionIPXE, []byte{1, 1, 1}))
		return
	}
	// DHCP_EB_NO_PXEDHCP: there is no ProxyDHCP server to wait for.
	q.Reply.UpdateOption(dhcpv4.OptGeneric(optionIPXE, []byte{176, 1, 1}))
}

// tftpLoader names the loader for PXE (PXE specification 2.1, table 2-2).
func (q *question) tftpLoader(name string) {
	q.bootFile(name)
	q.Reply.UpdateOption(dhcpv4.OptClassIdentifier("PXEClient"))
	if !q.proxy || q.Client.Kind == firmware.BIOS {
		// PXE_DISCOVERY_CONTROL, bit 3: take the boot file of this offer, do not
		// look for boot servers on port 4011. Some UEFI firmware ignores a
		// proxy's offer with it, but all asks port 4011 without (danderson/netboot,
		// pixiecore/dhcp.go).
		q.Reply.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionVendorSpecificInformation, []byte{6, 1, 8, 255}))
	}
	q.echoUUID()
}

// httpLoader names the loader for HTTP boot (UEFI specification 2.10, section
// 24.7.3.1): the class tells the firmware that the boot file is a URL, and that
// is in option 67 whether it was asked for or not.
func (q *question) httpLoader(name string) {
	q.bootFile(q.FileURL(name))
	q.Reply.UpdateOption(dhcpv4.OptBootFileName(q.FileURL(name)))
	q.Reply.UpdateOption(dhcpv4.OptClassIdentifier("HTTPClient"))
	q.echoUUID()
}

// echoUUID returns option 97, without which some ROMs ignore an offer.
func (q *question) echoUUID() {
	dhcpv4.WithOptionCopied(q.req, dhcpv4.OptionClientMachineIdentifier)(q.Reply)
}

// bootFile names the boot file and its server in the header, which is where
// legacy ROMs look, and in options 66 and 67 for clients that ask for them.
func (q *question) bootFile(name string) {
	server := q.Self
	q.Reply.ServerIPAddr = server.AsSlice()
	q.Reply.BootFileName = name
	if q.req.IsOptionRequested(dhcpv4.OptionTFTPServerName) {
		q.Reply.UpdateOption(dhcpv4.OptTFTPServerName(server.String()))
	}
	if q.req.IsOptionRequested(dhcpv4.OptionBootfileName) {
		q.Reply.UpdateOption(dhcpv4.OptBootFileName(name))
	}
}
