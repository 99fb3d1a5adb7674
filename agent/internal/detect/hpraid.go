package detect

import (
	"context"
	"fmt"
	"strconv"

	"edeploy/agent/internal/raidtool"
)

// hpRAID describes HP's controllers (reference section 3.3).
func hpRAID(ctx context.Context, r reader, f *facts) error {
	tool, text, err := firstProgram(ctx, r, raidtool.HP, "ctrl", "all", "show")
	controllers := raidtool.Controllers(text)
	controllers = controllers[:min(len(controllers), mostControllers)]
	if len(controllers) == 0 {
		return err
	}
	f.count("hpa", "slots", "count", len(controllers))
	count, total := 0, 0.0
	for _, controller := range controllers {
		n, size, err := hpDisks(ctx, r, f, tool, strconv.Itoa(controller.Slot))
		count, total = count+n, total+size
		if err != nil {
			return err
		}
	}
	if total > 0 {
		f.add("disk", "hpa", "size", fmt.Sprintf("%.2f", total))
	}
	f.count("disk", "hpa", "count", count)
	return nil
}

func hpDisks(ctx context.Context, r reader, f *facts, tool, slot string) (count int, size float64, err error) {
	text, err := r.good(ctx, tool, "ctrl", "slot="+slot, "show")
	for _, p := range raidtool.ControllerProperties(text) {
		f.add("hpa", "slot_"+slot, p.Key, p.Value)
	}
	if err != nil {
		return 0, 0, err
	}
	text, err = r.good(ctx, tool, "ctrl", "slot="+slot, "pd", "all", "show")
	for _, drive := range hpDrives(text) {
		f.add("disk", drive.ID, "type", drive.Facts[0])
		f.add("disk", drive.ID, "slot", slot)
		details, err := r.good(ctx, tool, "ctrl", "slot="+slot, "pd", drive.ID, "show")
		if err != nil {
			return count, size, err
		}
		count++
		size += hpDisk(f, drive.ID, details)
	}
	return count, size, err
}

func hpDrives(text string) []raidtool.Drive {
	var all []raidtool.Drive
	for _, group := range raidtool.PhysicalDrives(text) {
		all = append(all, group.Drives...)
	}
	return all[:min(len(all), mostSlots)]
}

// hpDisk adds a drive's lines, and answers its size in GB.
func hpDisk(f *facts, id, text string) (size float64) {
	for _, p := range raidtool.DriveProperties(text) {
		if p.Key == "size" {
			p.Value = gigabytes(p.Value)
			size, _ = strconv.ParseFloat(p.Value, 64)
		}
		f.add("disk", id, p.Key, p.Value)
	}
	return size
}
