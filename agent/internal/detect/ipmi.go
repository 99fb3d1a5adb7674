package detect

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// bmc tells whether the kernel has a way to the machine's BMC.
func bmc(r reader) bool {
	return r.exists("dev/ipmi0") || r.exists("dev/ipmi/0") || r.exists("dev/ipmidev/0")
}

// channels are those that a BMC may have.
const channels = 16

// ipmi describes a BMC's channel and network settings (reference sections 3.4
// and 3.7).
func ipmi(ctx context.Context, r reader, f *facts) error {
	if !bmc(r) {
		if strings.Contains(strings.ToUpper(r.text("proc/cmdline")), "FAKEIPMI") {
			f.add("system", "ipmi-fake", "channel", "0")
		}
		return nil
	}
	for channel := range channels {
		out, err := r.run(ctx, "ipmitool", "channel", "info", strconv.Itoa(channel))
		if err != nil {
			return fmt.Errorf("ipmitool: %w", err)
		}
		if out.Exit == 0 && strings.Contains(out.Text, "Volatile") {
			f.count("system", "ipmi", "channel", channel)
			break
		}
	}
	text, err := r.good(ctx, "ipmitool", "lan", "print")
	if err != nil {
		return err
	}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) != "" {
			f.add("ipmi", "lan", strings.ReplaceAll(strings.ToLower(strings.TrimSpace(name)), " ", "-"), value)
		}
	}
	return nil
}

// ipmiSensors are what "ipmitool sdr" says: "Fan 1 | 33.32 percent | ok".
func ipmiSensors(ctx context.Context, r reader, f *facts) error {
	if !bmc(r) {
		return nil
	}
	text, err := r.good(ctx, "ipmitool", "-I", "open", "sdr")
	if errors.Is(err, errNoProgram) {
		return nil // the settings have said so
	}
	if err != nil {
		return err
	}
	for line := range strings.Lines(text) {
		column := strings.Split(line, "|")
		if len(column) < 3 {
			continue
		}
		name := strings.TrimSpace(column[0])
		value, unit, _ := strings.Cut(strings.Join(strings.Fields(column[1]), " "), " ")
		if strings.Contains(line, "Not Readable") {
			value, unit = "Not Readable", ""
		}
		f.add("ipmi", name, "value", value)
		f.add("ipmi", name, "unit", unit)
	}
	return nil
}
