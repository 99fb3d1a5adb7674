package detect

import (
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"math/big"
	"strings"
)

// smart adds what a disk says about its health (reference section 3.3): an
// NVMe disk is asked itself, SCSI and SATA disks through smartctl.
func smart(ctx context.Context, r reader, f *facts, name string) error {
	switch {
	case strings.HasPrefix(name, "nvme"):
		answers, err := r.door.NVMe(name)
		nvmeHealth(f, name, answers)
		return unless(err, fs.ErrNotExist)
	case strings.HasPrefix(name, "vd"):
		return nil // virtio has no way to ask
	}
	out, err := r.run(ctx, "smartctl", "-a", "/dev/"+name)
	if err != nil {
		return unless(err, errNoProgram)
	}
	if hidden := behindRAID(out.Text); hidden != "" {
		return smartBehind(ctx, r, f, name, hidden)
	}
	smartText(f, name, out.Text)
	return nil
}

// behindRAID tells by which door of smartctl the disks of a RAID volume can be
// asked, "" where it is none.
func behindRAID(text string) string {
	vendor, product := labelled(text, "Vendor:"), labelled(text, "Product:")
	switch {
	case vendor == "DELL" && strings.Contains(product, "PERC"):
		return "megaraid"
	case vendor == "HP" && strings.Contains(product, "LOGICAL VOLUME"):
		return "cciss"
	}
	return ""
}

// mostHidden is how many disks are looked for behind a RAID volume.
const mostHidden = 24

// smartBehind asks the disks behind a RAID volume; ids that no disk has cost
// the driver nothing.
func smartBehind(ctx context.Context, r reader, f *facts, name, door string) error {
	for i := range mostHidden {
		number := fmt.Sprintf("%s,%d", door, i)
		out, err := r.run(ctx, "smartctl", "-a", "/dev/"+name, "-d", number)
		if err != nil {
			return err
		}
		if !strings.Contains(out.Text, "INQUIRY failed") {
			smartText(f, name+"{"+number+"}", out.Text)
		}
	}
	return nil
}

// ataFields and scsiFields are lines of smartctl -a, by the kind of disk.
var ataFields = []struct{ label, field string }{
	{"Device Model:", "device_model"}, {"Serial Number:", "serial_number"},
	{"Firmware Version:", "firmware_version"}, {"Rotation Rate:", "rotation_rate"},
	{"SMART overall-health self-assessment test result:", "health"}, // not in the original
}

var scsiFields = []struct{ label, field string }{
	{"Vendor:", "vendor"}, {"Product:", "product"}, {"Serial number:", "serial_number"}, {"SMART Health Status:", "health"},
	{"Specified cycle count over device lifetime:", "specified_start_stop_cycle_count_over_lifetime"},
	{"Accumulated start-stop cycles:", "start_stop_cycle_count"},
	{"Specified load-unload count over device lifetime:", "specified_load_count_over_lifetime"},
	{"Accumulated load-unload cycles:", "load_count"}, {"number of hours powered up =", "power_on_hours"},
	{"Blocks sent to initiator =", "blocks_sent"}, {"Blocks received from initiator =", "blocks_received"},
	{"Blocks read from cache and sent to initiator =", "blocks_read_from_cache"},
	{"Non-medium error count:", "non_medium_errors_count"},
	{"Current Drive Temperature:", "current_drive_temperature"}, {"Drive Trip Temperature:", "drive_trip_temperature"},
	{"Manufactured in", "manufacture_date"}, {"Rotation Rate:", "rotation_rate"},
}

// labelled is what follows a label at the beginning of a line.
func labelled(text, label string) string {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), label); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// smartText reads what smartctl -a prints.
func smartText(f *facts, id, text string) {
	fields := scsiFields
	if strings.Contains(text, "\nID# ") || labelled(text, "Device Model:") != "" {
		fields = ataFields
	}
	for _, known := range fields {
		value := labelled(text, known.label)
		if strings.HasSuffix(known.field, "temperature") {
			var unit string
			value, unit, _ = strings.Cut(value, " ")
			f.add("disk", id, "SMART/"+known.field, value)
			f.add("disk", id, "SMART/"+known.field+"_unit", unit)
			continue
		}
		f.add("disk", id, "SMART/"+known.field, value)
	}
	errorCounters(f, id, text)
	attributes(f, id, text)
}

// errorCounters reads the table "Error counter log" of SCSI disks.
func errorCounters(f *facts, id, text string) {
	for _, kind := range []string{"read", "write", "verify"} {
		if column := strings.Fields(labelled(text, kind+":")); len(column) >= 7 {
			f.add("disk", id, "SMART/"+kind+"_total_corrected_errors", column[3])
			f.add("disk", id, "SMART/"+kind+"_gigabytes_processed", column[5])
			f.add("disk", id, "SMART/"+kind+"_total_uncorrected_errors", column[6])
		}
	}
}

// attributes reads the table of SATA disks: ID, name, flag, value, worst,
// threshold, type, updated, when failed, raw value. The raw value begins with a
// blank, as the original's does.
func attributes(f *facts, id, text string) {
	_, table, _ := strings.Cut(text, "\nID# ")
	_, table, _ = strings.Cut(table, "\n")
	for line := range strings.Lines(table) {
		column := strings.Fields(line)
		if len(column) < 10 {
			return
		}
		name := fmt.Sprintf("SMART/%s(%s)/", column[1], column[0])
		if column[8] == "-" {
			column[8] = "NEVER"
		}
		for i, field := range []string{3: "value", 4: "worst", 5: "thresh", 8: "when_failed"} {
			if field != "" {
				f.add("disk", id, name+field, column[i])
			}
		}
		f.exact("disk", id, name+"raw", " "+strings.Join(column[9:], " "))
	}
}

// nvmeHealth names the controller's answers as smartctl does, with its units.
func nvmeHealth(f *facts, name string, answers NVMe) {
	if len(answers.Identify) < 4096 || len(answers.Health) < 512 {
		return
	}
	add := func(field, value string) { f.add("disk", name, "SMART/"+field, value) }
	controller, log := answers.Identify, answers.Health
	add("model_number", string(controller[24:64]))
	add("serial_number", string(controller[4:24]))
	add("firmware_version", string(controller[64:72]))
	add("total_nvm_capacity", capacity(littleEndian(controller[280:296])))
	add("warning_temp_threshold", celsius(controller[266:268], " Celsius"))
	add("critical_temp_threshold", celsius(controller[268:270], " Celsius"))
	add("critical_warning", fmt.Sprintf("0x%02x", log[0]))
	if degrees := celsius(log[1:3], ""); degrees != "" {
		add("temperature", degrees)
		add("temperature_unit", "Celsius")
	}
	add("available_spare", fmt.Sprintf("%d%%", log[3]))
	add("percentage_used", fmt.Sprintf("%d%%", log[5]))
	for _, count := range []struct {
		field string
		at    int
	}{{"power_cycles", 112}, {"power_on_hours", 128}, {"unsafe_shutdowns", 144},
		{"media_data_integrity_errors", 160}, {"error_information_log_entries", 176}} {
		add(count.field, thousands(littleEndian(log[count.at:count.at+16])))
	}
}

// celsius converts kelvins, of which 0 is not known.
func celsius(kelvins []byte, unit string) string {
	k := binary.LittleEndian.Uint16(kelvins)
	if k == 0 {
		return ""
	}
	return fmt.Sprintf("%d%s", int(k)-273, unit)
}

func littleEndian(number []byte) *big.Int {
	reversed := make([]byte, len(number))
	for i, b := range number {
		reversed[len(number)-1-i] = b
	}
	return new(big.Int).SetBytes(reversed)
}

// thousands groups digits: 1,234,567.
func thousands(n *big.Int) string {
	digits := n.String()
	var grouped strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			grouped.WriteByte(',')
		}
		grouped.WriteRune(d)
	}
	return grouped.String()
}

// capacity is "1,920,383,410,176 [1.92 TB]": bytes, and three digits of a
// decimal unit, the rest cut off.
func capacity(bytes *big.Int) string {
	if bytes.Sign() == 0 {
		return ""
	}
	value, _ := new(big.Float).SetInt(bytes).Float64()
	units := []string{"B", "KB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"}
	unit := 0
	for value >= 1000 && unit < len(units)-1 {
		value, unit = value/1000, unit+1
	}
	digits := 2
	for limit := value; limit >= 10 && digits > 0; limit /= 10 {
		digits--
	}
	if unit == 0 {
		digits = 0
	}
	scale := float64([]int{1, 10, 100}[digits])
	return fmt.Sprintf("%s [%.*f %s]", thousands(bytes), digits, float64(int64(value*scale))/scale, units[unit])
}
