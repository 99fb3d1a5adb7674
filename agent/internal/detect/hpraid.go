package detect

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// hpController is a line of "ctrl all show"; hpDrive one of "pd all show".
var (
	hpController = regexp.MustCompile(`(?m)^.* in Slot ([0-9]+)`)
	hpDrive      = regexp.MustCompile(`(?m)^\s*physicaldrive (\S+) \([^,]*, ([^,]*),`)
)

// hpRAID describes HP's controllers (reference section 3.3).
func hpRAID(ctx context.Context, r reader, f *facts) error {
	tool, text, err := firstProgram(ctx, r, []string{"ssacli", "hpssacli", "hpacucli"}, "ctrl", "all", "show")
	controllers := hpController.FindAllStringSubmatch(text, mostControllers)
	if len(controllers) == 0 {
		return err
	}
	f.count("hpa", "slots", "count", len(controllers))
	count, total := 0, 0.0
	for _, controller := range controllers {
		n, size, err := hpDisks(ctx, r, f, tool, controller[1])
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
	for _, p := range hpProperties(text, "slot") {
		f.add("hpa", "slot_"+slot, p.key, p.value)
	}
	if err != nil {
		return 0, 0, err
	}
	text, err = r.good(ctx, tool, "ctrl", "slot="+slot, "pd", "all", "show")
	for _, drive := range hpDrive.FindAllStringSubmatch(text, mostSlots) {
		f.add("disk", drive[1], "type", drive[2])
		f.add("disk", drive[1], "slot", slot)
		details, err := r.good(ctx, tool, "ctrl", "slot="+slot, "pd", drive[1], "show")
		if err != nil {
			return count, size, err
		}
		count++
		size += hpDisk(f, drive[1], details)
	}
	return count, size, err
}

// hpDisk adds a drive's lines, and answers its size in GB.
func hpDisk(f *facts, id, text string) (size float64) {
	for line := range strings.Lines(text) {
		if word := strings.Fields(line); len(word) > 1 && (word[0] == "array" || word[0] == "Array") {
			f.add("disk", id, "array", word[1])
		}
	}
	for _, p := range hpProperties(text, "port", "bay", "box") {
		if p.key == "size" {
			p.value = gigabytes(p.value)
			size, _ = strconv.ParseFloat(p.value, 64)
		}
		f.add("disk", id, p.key, p.value)
	}
	return size
}

var hpKey = strings.NewReplacer(" ", "_", "(", "", ")", "")

// hpProperties are lines "Key: value", keys in lower case with "_" for blanks.
func hpProperties(text string, without ...string) []property {
	var list []property
	for line := range strings.Lines(text) {
		part := strings.Split(line, ":")
		if len(part) < 2 {
			continue
		}
		key := strings.ReplaceAll(hpKey.Replace(strings.ToLower(strings.TrimSpace(part[0]))), "__", "_")
		value := strings.Join(strings.Fields(part[1]), " ")
		if !slices.Contains(without, key) && key != "" && value != "" {
			list = setProperty(list, key, value)
		}
	}
	return list
}
