package dhcp

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// grant offers or confirms an address, with what the client can boot.
func (q *question) grant(kind dhcpv4.MessageType, a netip.Addr) {
	q.reply(kind)
	q.Address = a
	q.Reply.YourIPAddr = a.AsSlice()
	q.To = q.destination()
	if q.renewing() {
		q.Reply.ClientIPAddr = q.req.ClientIPAddr
	}
	length := q.Leases.Time()
	q.Reply.UpdateOption(dhcpv4.OptIPAddressLeaseTime(length))
	q.Reply.UpdateOption(dhcpv4.OptRenewTimeValue(length / 2)) // the usual fractions, RFC 2131 section 4.4.5
	q.Reply.UpdateOption(dhcpv4.OptRebindingTimeValue(length / 8 * 7))
	q.settings()
	verb := "gets"
	if kind == dhcpv4.MessageTypeOffer {
		verb = "is offered"
	}
	q.Sentence = fmt.Sprintf("%s %s", verb, a)
	switch what, err := q.bootOptions(); {
	case err != nil:
		q.Sentence += "; " + err.Error()
	case what != "":
		q.Sentence += " and " + what
	}
}

// refuse says no: the machine forgets the address and starts again.
func (q *question) refuse(why string) {
	q.reply(dhcpv4.MessageTypeNak)
	q.Reply.UpdateOption(dhcpv4.OptMessage(why))
	if q.gateway.IsValid() {
		q.Reply.SetBroadcast() // RFC 2131 section 4.3.2: the relay must not unicast it
	}
	q.Sentence = "refused: " + why
}

// reply starts a reply with what all have in common.
func (q *question) reply(kind dhcpv4.MessageType) {
	q.Reply = &dhcpv4.DHCPv4{Options: dhcpv4.Options{}}
	for _, set := range []dhcpv4.Modifier{
		dhcpv4.WithReply(q.req),
		dhcpv4.WithGatewayIP(q.req.GatewayIPAddr),
		dhcpv4.WithMessageType(kind),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(q.Self.AsSlice())),
		dhcpv4.WithOptionCopied(q.req, dhcpv4.OptionRelayAgentInformation), // RFC 3046
		dhcpv4.WithOptionCopied(q.req, dhcpv4.OptionClientIdentifier),      // RFC 6842
	} {
		set(q.Reply)
	}
	q.To = q.destination()
}

// settings are the options that every machine of the network gets.
func (q *question) settings() {
	options := []dhcpv4.Option{dhcpv4.OptSubnetMask(net.CIDRMask(q.Prefix.Bits(), 32))}
	if q.Router.IsValid() {
		options = append(options, dhcpv4.OptRouter(q.Router.AsSlice()))
	}
	if len(q.DNS) > 0 {
		options = append(options, dhcpv4.OptDNS(ips(q.DNS)...))
	}
	if len(q.NTP) > 0 {
		options = append(options, dhcpv4.OptNTPServers(ips(q.NTP)...))
	}
	if q.Domain != "" {
		options = append(options, dhcpv4.OptDomainName(q.Domain))
	}
	if q.MTU != 0 {
		options = append(options, dhcpv4.OptGeneric(dhcpv4.OptionInterfaceMTU, binary.BigEndian.AppendUint16(nil, uint16(q.MTU))))
	}
	for _, o := range options {
		q.Reply.UpdateOption(o)
	}
}

func ips(all []netip.Addr) (list []net.IP) {
	for _, a := range all {
		list = append(list, a.AsSlice())
	}
	return list
}

// destination: RFC 2131 section 4.1.
func (q *question) destination() Destination {
	nak := q.Reply.MessageType() == dhcpv4.MessageTypeNak
	current := addr(q.req.ClientIPAddr)
	if !q.renewing() && q.Answer.Request != dhcpv4.MessageTypeInform {
		current = netip.Addr{}
	}
	switch {
	case q.gateway.IsValid():
		return Destination{Addr: netip.AddrPortFrom(q.gateway, dhcpv4.ServerPort)}
	case nak:
		return broadcast
	case q.Prefix.Contains(current): // an address elsewhere is a mistake, or somebody to be flooded
		return Destination{Addr: netip.AddrPortFrom(current, dhcpv4.ClientPort)}
	case q.req.IsBroadcast():
		return broadcast
	}
	return Destination{Addr: netip.AddrPortFrom(addr(q.Reply.YourIPAddr), dhcpv4.ClientPort), Frame: true}
}

var broadcast = Destination{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), dhcpv4.ClientPort)}
