package detect

import (
	"context"
	"maps"
	"slices"
	"strings"
)

// neighbours are what switches say of the ports that the network devices are
// plugged into (reference section 3.5).
func neighbours(ctx context.Context, r reader, f *facts) error {
	said, err := r.door.LLDP(ctx)
	for _, device := range slices.SortedFunc(maps.Keys(said), Natural) {
		neighbour(f, device, said[device])
	}
	return err
}

// neighbour makes facts of what lldptool prints as the original did
// (hardware/detect_utils.py, parse_lldtool): a line that is not indented begins a
// TLV, "name: value" lines inside put their names behind the field so far, and a
// slash is written as "_".
func neighbour(f *facts, device, text string) {
	field, last := "", ""
	for line := range strings.Lines(text) {
		content := strings.ReplaceAll(tidy(line), "/", "_")
		if !strings.HasPrefix(line, "\t") {
			field, last = strings.ReplaceAll(content, " TLV", ""), ""
			continue
		}
		if name, value, named := strings.Cut(content, ":"); named {
			if name != last {
				field, last = field+"/"+name, name
			}
			content = value
		}
		f.add("lldp", device, field, content)
	}
}
