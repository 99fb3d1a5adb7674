package detect

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/u-root/u-root/pkg/smbios"
)

// memory describes the memory (reference section 3.4): total size in bytes,
// and the banks that the firmware lists.
func memory(_ context.Context, r reader, f *facts) error {
	banks, err := memoryBanks(r)
	if total := totalMemory(r, banks); total > 0 {
		f.add("memory", "total", "size", decimal(total))
	}
	for _, bank := range banks {
		f.bank(bank)
	}
	if len(banks) > 0 {
		f.count("memory", "banks", "count", len(banks))
	}
	return err
}

// bank is a place for memory.
type bank struct {
	*smbios.MemoryDevice
	id string // "bank:1", with several controllers "bank:0:1"
}

func (f *facts) bank(b bank) {
	add := func(field, value string) { f.add("memory", b.id, field, value) }
	size := b.GetSizeBytes()
	if size == 0 {
		add("description", "[empty]")
		add("slot", specified(b.DeviceLocator))
		return
	}
	add("size", decimal(size))
	if speed := uint64(b.Speed); speed > 0 && speed < 0xffff {
		add("clock", decimal(speed*1_000_000))
	}
	add("description", describeBank(b.MemoryDevice))
	add("vendor", specified(b.Manufacturer))
	add("product", specified(b.PartNumber))
	add("serial", specified(b.SerialNumber))
	add("slot", specified(b.DeviceLocator))
	if speed := uint64(b.ConfiguredSpeed); speed > 0 && speed < 0xffff {
		add("configured-clock", decimal(speed*1_000_000))
	}
	if rank := b.Attributes & 0x0f; rank > 0 {
		add("rank", strconv.Itoa(int(rank)))
	}
}

// describeBank follows lshw: form, type, speed.
func describeBank(bank *smbios.MemoryDevice) string {
	words := []string{bank.FormFactor.String(), bank.Type.String()}
	if bank.TypeDetail&smbios.MemoryDeviceTypeDetailSynchronous != 0 {
		words = append(words, "Synchronous")
	}
	if speed := bank.Speed; speed > 0 && speed < 0xffff {
		words = append(words, fmt.Sprintf("%d MHz (%.1f ns)", speed, 1000/float64(speed)))
	}
	return strings.Join(words, " ")
}

// specified drops the texts that stand for a missing one.
func specified(text string) string {
	if text == "Not Specified" || text == "<BAD INDEX>" {
		return ""
	}
	return text
}

// Physical Memory Array, SMBIOS table type 16.
const (
	tableTypeMemoryArray = smbios.TableType(16)
	useOfArray           = 0x05 // offset
	systemMemory         = 0x03 // the use that counts: others are flash and video memory
)

// memoryBanks are those of the system's memory (SMBIOS type 17), by the
// controller (type 16) that they belong to.
func memoryBanks(r reader) ([]bank, error) {
	controllers := map[uint16]int{} // by handle: number, -1 where it is other memory
	count := 0
	err := eachTable(r, tableTypeMemoryArray, func(t *smbios.Table) error {
		use, err := t.GetByteAt(useOfArray)
		controllers[t.Handle] = -1
		if use == systemMemory {
			controllers[t.Handle] = count
			count++
		}
		return err
	})
	if err != nil {
		controllers, count = nil, 0 // who belongs to whom is not known
	}
	var banks []bank
	last := map[int]int{} // how many banks a controller has so far
	err = eachTable(r, smbios.TableTypeMemoryDevice, func(t *smbios.Table) error {
		device, err := smbios.NewMemoryDevice(t)
		if err != nil {
			return err
		}
		controller, known := controllers[device.PhysicalMemoryArrayHandle]
		if known && controller < 0 {
			return nil
		}
		id := "bank:" + strconv.Itoa(last[controller])
		if count > 1 {
			id = fmt.Sprintf("bank:%d:%d", controller, last[controller])
		}
		last[controller]++
		banks = append(banks, bank{device, id})
		return nil
	})
	return banks, err
}

// totalMemory is in bytes: what is plugged in, else what the kernel manages,
// else what it can use.
func totalMemory(r reader, banks []bank) uint64 {
	var total uint64
	for _, bank := range banks {
		total += bank.GetSizeBytes()
	}
	if total == 0 {
		total = memoryBlocks(r)
	}
	if total == 0 {
		total = usableMemory(r)
	}
	return total
}

// memoryBlocks is the size of the blocks that are online.
func memoryBlocks(r reader) (total uint64) {
	size, err := strconv.ParseUint(r.text("sys/devices/system/memory/block_size_bytes"), 16, 48)
	if err != nil {
		return 0
	}
	for _, file := range r.glob("sys/devices/system/memory/memory[0-9]*/state") {
		if r.text(file) == "online" {
			total += size
		}
	}
	return total
}

// usableMemory is the line "MemTotal: 33484800 kB".
func usableMemory(r reader) uint64 {
	kB, _, _ := strings.Cut(labelled(r.text("proc/meminfo"), "MemTotal:"), " ")
	n, err := strconv.ParseUint(kB, 10, 48)
	if err != nil {
		return 0
	}
	return n * 1024
}
