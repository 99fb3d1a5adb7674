package detect

import (
	"fmt"
	"io/fs"
	"log/slog"
	"strconv"
	"strings"

	"github.com/jaypipes/ghw"
	"github.com/u-root/u-root/pkg/smbios"
)

// memory describes the memory (reference section 3.4): total size in bytes,
// and the banks that the firmware lists.
func memory(r reader, f *facts, whole *ghw.MemoryInfo, log *slog.Logger) {
	banks, err := memoryBanks(r)
	if err != nil {
		log.Warn("memory banks are left out", "error", err)
	}
	if total := totalMemory(banks, whole); total > 0 {
		f.add("memory", "total", "size", decimal(total))
	}
	for i, bank := range banks {
		f.bank("bank:"+strconv.Itoa(i), bank)
	}
	if len(banks) > 0 {
		f.add("memory", "banks", "count", strconv.Itoa(len(banks)))
	}
}

func (f *facts) bank(id string, bank *smbios.MemoryDevice) {
	size := bank.GetSizeBytes()
	if size == 0 {
		f.add("memory", id, "description", "[empty]")
		f.add("memory", id, "slot", bank.DeviceLocator)
		return
	}
	f.add("memory", id, "size", decimal(size))
	if speed := uint64(bank.Speed); speed > 0 && speed < 0xffff {
		f.add("memory", id, "clock", decimal(speed*1_000_000))
	}
	f.add("memory", id, "description", describeBank(bank))
	f.add("memory", id, "vendor", specified(bank.Manufacturer))
	f.add("memory", id, "product", specified(bank.PartNumber))
	f.add("memory", id, "serial", specified(bank.SerialNumber))
	f.add("memory", id, "slot", bank.DeviceLocator)
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

// specified drops the text that SMBIOS tools write for a missing one.
func specified(text string) string {
	if text == "Not Specified" {
		return ""
	}
	return text
}

// memoryBanks reads the firmware's tables (SMBIOS type 17). Those are a
// vendor's work and come with surprises, which must not end the agent.
func memoryBanks(r reader) (banks []*smbios.MemoryDevice, err error) {
	defer func() {
		if p := recover(); p != nil {
			banks, err = nil, fmt.Errorf("parse SMBIOS tables: %v", p)
		}
	}()
	data, err := fs.ReadFile(r.root, "sys/firmware/dmi/tables/DMI")
	if err != nil {
		return nil, err
	}
	for len(data) > 0 {
		table, rest, err := smbios.ParseTable(data)
		if table == nil || table.Type == smbios.TableTypeEndOfTable || len(rest) >= len(data) {
			return banks, nil
		}
		if err != nil {
			return banks, fmt.Errorf("parse SMBIOS tables: %w", err)
		}
		if table.Type == smbios.TableTypeMemoryDevice {
			bank, err := smbios.NewMemoryDevice(table)
			if err != nil {
				return banks, fmt.Errorf("parse SMBIOS memory device: %w", err)
			}
			banks = append(banks, bank)
		}
		data = rest
	}
	return banks, nil
}

// totalMemory is in bytes: what is plugged in, else what the kernel manages,
// else what it can use.
func totalMemory(banks []*smbios.MemoryDevice, whole *ghw.MemoryInfo) uint64 {
	var total uint64
	for _, bank := range banks {
		total += bank.GetSizeBytes()
	}
	if total > 0 {
		return total
	}
	return uint64(whole.TotalPhysicalBytes)
}
