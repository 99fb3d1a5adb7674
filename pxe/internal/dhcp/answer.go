// Package dhcp answers DHCP requests of boot ROMs, iPXE, the agent and
// installed systems (RFC 2131, RFC 4578).
//
// Answer decides; it is a function of the request and the lease table. Server
// is the loop around it: it receives, makes leases durable, and sends.
package dhcp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"edeploy/pxe/internal/firmware"
	"edeploy/pxe/internal/foreign"
	"edeploy/pxe/internal/lease"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// Network is what the answers say about the provisioning networks.
type Network struct {
	Self    netip.Addr // the server's own address
	Subnets []Subnet   // the first is the one that the device is on; relays stand in the others

	// ScriptURL is where the iPXE of a machine gets its script.
	ScriptURL func(mac, uuid string) string
	// FileURL is where UEFI HTTP boot gets a file of the boot directory.
	FileURL func(name string) string
	// HasFile tells whether the boot directory holds a loader.
	HasFile func(name string) bool
	// Alone tells whether a machine is one to be left alone; link is the relay's
	// address, or the server's own. nil: none is.
	Alone func(mac, uuid string, link netip.Addr) bool
	// Loader is what the firmware of a machine is made to start. nil: LoaderIPXE.
	Loader func(Firmware) firmware.Loader
	// Runs is told of a machine that asks as something that is no firmware: an
	// agent or an installed system. nil: nobody wants to know.
	Runs func(mac, uuid string)
}

// Firmware is a boot ROM that asks what to load.
type Firmware struct {
	MAC, UUID   string
	Kind        firmware.Kind
	Link        netip.Addr // the relay's address, or the server's own
	Transaction [4]byte    // the same in all requests of one try
	First       bool       // it begins a try, or repeats the beginning
	Last        bool       // after this answer it loads what it was named
}

// Subnet is what the machines of one network are told.
type Subnet struct {
	Prefix netip.Prefix
	Leases *lease.Table // nil: another server gives the addresses
	Settings
}

// Settings are what machines are told besides their address; zero values are
// not sent.
type Settings struct {
	Router netip.Addr   // default gateway
	DNS    []netip.Addr // name servers
	NTP    []netip.Addr // time servers
	Domain string       // of host names
	MTU    int          // of the network device, in bytes
}

// Answer is what to do about one request.
type Answer struct {
	MAC     lease.MAC
	From    string // the hardware address as the packet has it
	Client  firmware.Client
	Request dhcpv4.MessageType

	Reply   *dhcpv4.DHCPv4 // nil: say nothing
	To      Destination    // of Reply
	Durable bool           // the table was changed: save it, then send Reply
	Probe   bool           // the machine never had Address: ask whether somebody uses it, then send Reply
	Near    bool           // Address is on the device's own network

	Sentence string     // what was decided, and why when it was nothing
	Address  netip.Addr // the machine's, when it has one
	Event    bool       // the sentence belongs into the machine's history
	Ignored  bool       // the request is none that is to be answered; without a sentence, not worth a line either
}

// Destination is where a reply goes.
type Destination struct {
	Addr netip.AddrPort // the zero value: where the request came from
	// Frame: the machine does not answer ARP for Addr yet, so the reply goes
	// in an Ethernet frame straight to its MAC address (RFC 2131 section 4.1).
	Frame bool
}

// Answer decides about one request. Leases change in the table at once; the
// caller saves it before it sends an answer that is Durable.
func (n Network) Answer(req *dhcpv4.DHCPv4) Answer {
	q := n.question(req)
	if q.Ignored {
		return q.Answer
	}
	if looks(req) {
		q.seen()
		return q.Answer
	}
	if q.alone() {
		q.ignore("it is not known here, and unknown machines are left alone")
		return q.Answer
	}
	if !q.place() {
		q.ignore("the relay %s is on a network for which there is no address range", q.gateway)
		return q.Answer
	}
	switch q.Request {
	case dhcpv4.MessageTypeDiscover:
		q.discover()
	case dhcpv4.MessageTypeRequest:
		q.request()
	case dhcpv4.MessageTypeDecline:
		q.decline()
	case dhcpv4.MessageTypeRelease:
		q.release()
	case dhcpv4.MessageTypeInform:
		q.inform()
	default:
		q.ignore("not a message that a DHCP client sends")
	}
	return q.Answer
}

// question starts to answer a request: who asks.
func (n Network) question(req *dhcpv4.DHCPv4) *question {
	q := &question{Network: n, Subnet: n.Subnets[0], req: req, gateway: addr(req.GatewayIPAddr), Answer: Answer{Request: req.MessageType(), From: req.ClientHWAddr.String()}}
	mac, err := machine(req)
	if err != nil {
		q.ignore("%v", err)
		return q
	}
	q.MAC, q.Client = mac, identify(req)
	return q
}

// alone tells whether the machine is to be left alone.
func (q *question) alone() bool {
	return q.Alone != nil && q.Alone(q.MAC.String(), q.Client.UUID, q.link())
}

// link is an address of the network that the request was heard on: the relay's,
// or the server's own.
func (q *question) link() netip.Addr {
	if q.gateway.IsValid() {
		return q.gateway
	}
	return q.Self
}

// place finds the network that the machine is on: the relay's; when it asks
// without a relay and has an address, the one of its address; else the device's.
func (q *question) place() bool {
	at := q.gateway
	if !at.IsValid() && (q.renewing() || q.Request == dhcpv4.MessageTypeRelease || q.Request == dhcpv4.MessageTypeInform) {
		at = addr(q.req.ClientIPAddr)
	}
	for _, s := range q.Subnets {
		if s.Prefix.Contains(at) {
			q.Subnet = s
			return true
		}
	}
	return !q.gateway.IsValid()
}

// ignore says nothing to the client.
func (q *question) ignore(why string, args ...any) {
	q.Sentence, q.Ignored = "ignored: "+fmt.Sprintf(why, args...), true
}

// machine is who asks, by the hardware address of the header. Client
// identifiers change from firmware to iPXE to the installed system.
func machine(req *dhcpv4.DHCPv4) (lease.MAC, error) {
	var mac lease.MAC
	switch {
	case req.OpCode != dhcpv4.OpcodeBootRequest:
		return mac, errors.New("not a request")
	case req.HWType != iana.HWTypeEthernet || len(req.ClientHWAddr) != len(mac):
		return mac, fmt.Errorf("hardware type %d with an address of %d bytes is not Ethernet", req.HWType, len(req.ClientHWAddr))
	}
	mac = lease.MAC(req.ClientHWAddr)
	if mac == (lease.MAC{}) || mac[0]&1 != 0 {
		return mac, fmt.Errorf("%s is not the address of one machine", mac)
	}
	return mac, nil
}

func identify(req *dhcpv4.DHCPv4) firmware.Client {
	return firmware.Identify(firmware.Options{
		VendorClass: req.Options.Get(dhcpv4.OptionClassIdentifier),
		UserClass:   req.Options.Get(dhcpv4.OptionUserClassInformation),
		Arch:        req.Options.Get(dhcpv4.OptionClientSystemArchitectureType),
		UUID:        req.Options.Get(dhcpv4.OptionClientMachineIdentifier),
		IPXE:        req.Options.Get(optionIPXE),
	})
}

// addr is an address field; the zero Addr stands for 0.0.0.0 and for nothing.
func addr(ip net.IP) netip.Addr {
	a, ok := netip.AddrFromSlice(ip.To4())
	if !ok || a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

// question is one request on its way to its answer.
type question struct {
	Network
	Subnet
	Answer
	req     *dhcpv4.DHCPv4
	gateway netip.Addr // the relay; the zero Addr: none
	proxy   bool
}

// discover: RFC 2131 section 4.3.1.
func (q *question) discover() {
	fresh := q.Leases.Fresh(q.MAC)
	offer, err := q.Leases.Offer(q.MAC, addr(q.req.RequestedIPAddress()))
	if err != nil {
		q.Sentence, q.Event = fmt.Sprintf("no address for this machine: %v", err), true
		return
	}
	q.grant(dhcpv4.MessageTypeOffer, offer)
	if by, ok := q.Leases.Declined(offer); ok {
		q.Event = true
		q.Sentence += fmt.Sprintf("; nothing else is free, though it is set aside because %s found it in use", by)
		return
	}
	q.Probe, q.Near = fresh, q.Prefix == q.Subnets[0].Prefix
}

// renewing tells whether the request is one of the two whose ciaddr counts,
// RENEWING and REBINDING: RFC 2131 table 5. Elsewhere it is what a machine has
// left over from somewhere, where it does not answer.
func (q *question) renewing() bool {
	return q.Answer.Request == dhcpv4.MessageTypeRequest && addr(q.req.ClientIPAddr).IsValid() &&
		!q.req.Options.Has(dhcpv4.OptionServerIdentifier) && !addr(q.req.RequestedIPAddress()).IsValid()
}

// looks tells whether the request is of another appliance that looks for DHCP
// servers.
func looks(req *dhcpv4.DHCPv4) bool {
	return req.MessageType() == dhcpv4.MessageTypeDiscover && req.ClassIdentifier() == foreign.Class
}

// seen lets another appliance know that this one is here.
func (q *question) seen() {
	q.reply(dhcpv4.MessageTypeOffer)
	q.Reply.UpdateOption(dhcpv4.OptClassIdentifier(foreign.Class))
	q.To = broadcast
	q.Event = true
	q.Sentence = "is an appliance that looks for DHCP servers; it hears that this one is here"
}

// request: RFC 2131 section 4.3.2. With a server identifier it answers an
// offer; with a requested address alone the machine has rebooted and wants its
// old one again; with neither it renews.
func (q *question) request() {
	chosen := addr(q.req.ServerIdentifier())
	wanted := addr(q.req.RequestedIPAddress())
	if chosen.IsValid() && chosen != q.Self {
		q.Leases.Withdraw(q.MAC)
		q.Sentence, q.Event = fmt.Sprintf("took the offer of another DHCP server on this network, %s", chosen), true
		return
	}
	if q.renewing() {
		wanted = addr(q.req.ClientIPAddr)
	}
	switch {
	case !wanted.IsValid():
		q.refuse("the request names no address")
		return
	case !q.Prefix.Contains(wanted):
		q.refuse(fmt.Sprintf("address %s is not in this network", wanted))
		return
	}
	isNew, err := q.Leases.Lease(q.MAC, wanted)
	if errors.Is(err, lease.ErrOutOfRange) && !chosen.IsValid() && !q.known() {
		// Another server's, or the administrator's; a no would take it away.
		q.ignore("asks again for %s, which this server did not give it", wanted)
		return
	}
	if err != nil {
		q.refuse(err.Error())
		return
	}
	q.grant(dhcpv4.MessageTypeAck, wanted)
	q.Durable = true
	q.Event = isNew || q.Client.Kind != firmware.Plain
}

// known tells whether there is a record of the machine.
func (q *question) known() bool {
	_, ok := q.Leases.Address(q.MAC)
	return ok
}

func (q *question) decline() {
	declined := addr(q.req.RequestedIPAddress())
	if !q.Leases.Decline(q.MAC, declined) {
		q.ignore("declines %s, which it does not have", text(declined))
		return
	}
	q.Durable, q.Event = true, true
	q.Sentence = fmt.Sprintf("found another machine that uses %s; the address is set aside for %s", declined, lease.DeclineTime)
}

func (q *question) release() {
	released := addr(q.req.ClientIPAddr)
	if !q.Leases.Release(q.MAC, released) {
		q.ignore("releases %s, which it does not have", text(released))
		return
	}
	q.Durable = true
	q.Sentence = fmt.Sprintf("released %s", released)
}

// inform: RFC 2131 section 4.3.5; the machine has its address from elsewhere.
func (q *question) inform() {
	current := addr(q.req.ClientIPAddr)
	if !current.IsValid() {
		q.ignore("asks for settings without having an address")
		return
	}
	if !q.Prefix.Contains(current) {
		q.ignore("asks for settings with address %s of another network", current)
		return
	}
	q.reply(dhcpv4.MessageTypeAck)
	q.settings()
	q.Reply.ClientIPAddr = q.req.ClientIPAddr
	q.Sentence = fmt.Sprintf("told the network's settings to %s", current)
}

func text(a netip.Addr) string {
	if !a.IsValid() {
		return "no address"
	}
	return a.String()
}
