package detect

import (
	"net"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// addresses asks the kernel.
func addresses(device string) []netip.Prefix {
	iface, err := net.InterfaceByName(device)
	if err != nil {
		return nil
	}
	list, err := iface.Addrs()
	if err != nil {
		return nil
	}
	var found []netip.Prefix
	for _, address := range list {
		if prefix, err := netip.ParsePrefix(address.String()); err == nil {
			found = append(found, prefix)
		}
	}
	return found
}

// ethtool asks the driver; many know only part of it.
func ethtool(device string) Ethtool {
	var answer Ethtool
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return answer
	}
	defer unix.Close(fd)
	if info, err := unix.IoctlGetEthtoolDrvinfo(fd, device); err == nil {
		answer.Firmware = unix.ByteSliceToString(info.Fw_version[:])
	}
	answer.Autonegotiation = autonegotiation(fd, device)
	return answer
}

// ethtoolCmd is struct ethtool_cmd of linux/ethtool.h (ETHTOOL_GSET).
type ethtoolCmd struct {
	cmd, supported, advertising uint32
	speed                       uint16
	duplex, port, phyAddress    uint8
	transceiver, autoneg, mdio  uint8
	maxTxPackets, maxRxPackets  uint32
	speedHigh                   uint16
	tpMDIX, tpMDIXControl       uint8
	partnerAdvertising          uint32
	reserved                    [2]uint32
}

// supportedAutoneg is SUPPORTED_Autoneg: the device can negotiate at all.
const supportedAutoneg = 1 << 6

func autonegotiation(fd int, device string) string {
	settings := ethtoolCmd{cmd: unix.ETHTOOL_GSET}
	var request struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte // the rest of struct ifreq's union
	}
	copy(request.name[:unix.IFNAMSIZ-1], device)
	request.data = unsafe.Pointer(&settings)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	switch {
	case errno != 0 || settings.supported&supportedAutoneg == 0:
		return ""
	case settings.autoneg == 1:
		return "on"
	}
	return "off"
}
