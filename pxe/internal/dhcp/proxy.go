package dhcp

import (
	"edeploy/pxe/internal/firmware"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// Proxy decides about one request beside another server, which gives the
// addresses: boot ROMs and iPXE hear what they can boot, and everything else
// is left to the other server (PXE specification 2.1, section 2.2). A DISCOVER
// is answered with an offer without an address; bootServer tells that the
// request came to port 4011, where machines that have an address ask again.
func (n Network) Proxy(req *dhcpv4.DHCPv4, bootServer bool) Answer {
	q := n.question(req)
	q.proxy = true
	kind := dhcpv4.MessageTypeOffer
	switch {
	case q.Ignored:
		return q.Answer
	case q.Client.Kind == firmware.Plain:
		q.Ignored = true
		return q.Answer
	case !bootServer && q.Request == dhcpv4.MessageTypeDiscover:
	case bootServer && (q.Request == dhcpv4.MessageTypeRequest || q.Request == dhcpv4.MessageTypeInform):
		kind = dhcpv4.MessageTypeAck
	default:
		q.Ignored = true
		return q.Answer
	}
	if q.alone() {
		q.ignore("it is not known here, and unknown machines are left alone")
		return q.Answer
	}
	q.offerBoot(kind)
	return q.Answer
}

// offerBoot tells what to boot, without an address.
func (q *question) offerBoot(kind dhcpv4.MessageType) {
	q.Event = true
	q.reply(kind)
	q.To = q.proxyDestination(kind)
	what, err := q.bootOptions()
	if err != nil {
		q.Reply, q.Sentence = nil, err.Error()
		return
	}
	if kind == dhcpv4.MessageTypeAck {
		q.Address = addr(q.req.ClientIPAddr)
		q.Reply.ClientIPAddr = q.req.ClientIPAddr
		q.bootItem()
		q.Sentence = "gets " + what
		return
	}
	q.Sentence = "is offered " + what
}

// proxyDestination: a machine without an address hears broadcasts only; one
// that asks port 4011 has one.
func (q *question) proxyDestination(kind dhcpv4.MessageType) Destination {
	switch to := q.destination(); {
	case kind == dhcpv4.MessageTypeAck:
		return Destination{}
	case q.gateway.IsValid():
		return to
	}
	return broadcast
}

// bootItem returns the boot server that the machine chose (PXE specification
// 2.1, table 2-1: PXE_BOOT_ITEM, tag 71), without which it takes no answer.
func (q *question) bootItem() {
	for rest := q.req.Options.Get(dhcpv4.OptionVendorSpecificInformation); len(rest) > 0 && rest[0] != optionEnd; {
		if rest[0] == optionPad {
			rest = rest[1:]
			continue
		}
		if len(rest) < 2 || len(rest) < 2+int(rest[1]) {
			return
		}
		item := rest[:2+int(rest[1])]
		if item[0] == 71 && len(item) == 6 {
			q.Reply.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionVendorSpecificInformation, append(item[:6:6], optionEnd)))
			return
		}
		rest = rest[len(item):]
	}
}
