package detect

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ThisMachine is the machine that the program runs on.
func ThisMachine() Source {
	return Source{FS: os.DirFS("/"), Run: runProgram, DMI: sync.OnceValue(inventory), Addresses: addresses, Ethtool: ethtool, NVMe: nvmeAnswers}
}

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

// nvmeCommand is struct nvme_admin_cmd of linux/nvme_ioctl.h.
type nvmeCommand struct {
	opcode, flags        uint8
	rsvd1                uint16
	nsid, cdw2, cdw3     uint32
	metadata, addr       uint64
	metadataLen, dataLen uint32
	cdw10, cdw11, cdw12  uint32
	cdw13, cdw14, cdw15  uint32
	timeoutMS, result    uint32
}

// Admin commands that only read, and the ioctl that sends them.
const (
	nvmeAdmin    = 0xc0484e41 // NVME_IOCTL_ADMIN_CMD: _IOWR('N', 0x41, struct nvme_admin_cmd)
	nvmeGetLog   = 0x02
	nvmeIdentify = 0x06
	nvmeTimeout  = 3000 // milliseconds
)

// nvmeAnswers asks the controller of a disk such as nvme0n1.
func nvmeAnswers(disk string) (NVMe, error) {
	f, err := os.Open("/dev/" + disk)
	if err != nil {
		return NVMe{}, err
	}
	defer f.Close()
	answers := NVMe{Identify: make([]byte, 4096), Health: make([]byte, 512)}
	// Identify, CNS 01h: this controller.
	if err := nvmeAsk(f, nvmeCommand{opcode: nvmeIdentify, cdw10: 1}, answers.Identify); err != nil {
		return NVMe{}, fmt.Errorf("identify the controller of %s: %w", disk, err)
	}
	// Log page 02h of the controller, its length in dwords less one.
	log := nvmeCommand{opcode: nvmeGetLog, nsid: 0xffffffff, cdw10: uint32(len(answers.Health)/4-1)<<16 | 0x02}
	if err := nvmeAsk(f, log, answers.Health); err != nil {
		return NVMe{}, fmt.Errorf("read the health of %s: %w", disk, err)
	}
	return answers, nil
}

func nvmeAsk(f *os.File, command nvmeCommand, answer []byte) error {
	command.addr, command.dataLen = uint64(uintptr(unsafe.Pointer(&answer[0]))), uint32(len(answer))
	command.timeoutMS = nvmeTimeout
	status, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), nvmeAdmin, uintptr(unsafe.Pointer(&command)))
	runtime.KeepAlive(answer)
	if errno != 0 {
		return errno
	}
	if status != 0 {
		return fmt.Errorf("NVMe status %#x", status)
	}
	return nil
}
