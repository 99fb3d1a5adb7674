package detect

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"strconv"

	"github.com/jaypipes/ghw"
)

// inventory is what ghw says about a machine. A part that ghw cannot describe
// is empty, never nil.
type inventory struct {
	disks   []*ghw.Disk // in natural order
	product *ghw.ProductInfo
	board   *ghw.BaseboardInfo
	bios    *ghw.BIOSInfo
	memory  *ghw.MemoryInfo
	devices []*ghw.NIC // in natural order
	cpu     *ghw.CPUInfo
}

// takeInventory asks ghw about the machine below root.
func takeInventory(ctx context.Context, root string, log *slog.Logger) inventory {
	for _, set := range []ghw.Modifier{
		ghw.WithChroot(root),
		ghw.WithDisableTools(),
		// A warning for each file that a machine does not have; to stderr by default.
		ghw.WithLogger(slog.New(slog.DiscardHandler)),
		// Without memory blocks ghw searches all old system logs for the size of the memory.
		ghw.WithPathOverrides(map[string]string{"/var": os.DevNull}),
	} {
		ctx = set(ctx)
	}
	inv := inventory{
		disks:   ask(ctx, log, "disks", ghw.Block).Disks,
		product: ask(ctx, log, "product", ghw.Product),
		board:   ask(ctx, log, "board", ghw.Baseboard),
		bios:    ask(ctx, log, "firmware", ghw.BIOS),
		memory:  ask(ctx, log, "size of the memory", ghw.Memory),
		devices: ask(ctx, log, "network devices", ghw.Network).NICs,
		cpu:     ask(ctx, log, "processors", ghw.CPU),
	}
	slices.SortFunc(inv.disks, func(a, b *ghw.Disk) int { return Natural(a.Name, b.Name) })
	slices.SortFunc(inv.devices, func(a, b *ghw.NIC) int { return Natural(a.Name, b.Name) })
	return inv
}

// ask asks ghw one question. An error, or a panic over a file of unexpected
// form (names in /sys/kernel/mm/hugepages, empty lines in /proc/self/mounts),
// costs the answer, not the description.
func ask[T any](ctx context.Context, log *slog.Logger, part string, question func(...any) (*T, error)) (answer *T) {
	defer func() {
		if p := recover(); p != nil {
			log.Warn("hardware is left out", "part", part, "error", p)
			answer = new(T)
		}
	}()
	answer, err := question(ctx)
	if err != nil {
		log.Warn("hardware is left out", "part", part, "error", err)
		return new(T)
	}
	return answer
}

// decimal writes a count or size.
func decimal[T uint32 | uint64](n T) string { return strconv.FormatUint(uint64(n), 10) }
