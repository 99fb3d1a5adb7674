package hardware

import (
	"math"
	"regexp"
	"strings"

	"edeploy/server/wire"
)

// personalFields are fields (reference sections 3.3 to 3.7) that are another
// value on every machine, or every minute.
var personalFields = regexp.MustCompile(`(?i)(^|[/_ -])(serial([ _-]?(number|no))?|uuid|guid|wwn|mac([ _-]address)?|asset[ _-]?tag)($|[/_ -])` +
	`|^(id|wwn-id|scsi-id|businfo|cmdline|bogomips|loops_per_sec|current_mhz|frequency|link|latency)$` +
	`|^ipv4|ip-address|gateway|subnet|(_guid|base_lid|sm_lid)$` +
	`|temperature|power_on|_hours|power_cycles|start_stop|load_count|blocks_|gigabytes_processed|error|unsafe_shutdowns|manufacture_date` +
	`|^(sasaddress|inquirydata|sequencenumber)|percentage_used|available_spare` +
	`|bandwidth|_kbps$|_iops$`)

// smartCounters: of SMART attributes only thresholds say something about the
// model.
var smartCounters = regexp.MustCompile(`^SMART/.*\([0-9]+\)/(value|worst|raw|when_failed)$`)

// addressText is an address in the name of something: what was measured
// against another machine has it.
var addressText = regexp.MustCompile(`(?i)(^|[^0-9.])[0-9]{1,3}(\.[0-9]{1,3}){3}($|[^0-9.])|([0-9a-f]{1,4}:){5,7}[0-9a-f]{1,4}|[0-9a-f]{1,4}::[0-9a-f]`)

// blockSize is in the names of benchmarks: randread_4k, memory_128M.
var blockSize = regexp.MustCompile(`(^|[/_ -])[0-9]+[kKMG]i?B?($|[/_ -])`)

// measured is a number with decimals, which nobody counts.
var measured = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+|\.[0-9]+e[-+]?[0-9]+)$`)

// namedField are fields whose numbers with decimals are names, or are written
// on the box.
var namedField = regexp.MustCompile(`(?i)size|capacity|version|firmware|revision|release|(^|[/_ -])(rev|ver|fw|driver|spec)($|[/_ -])`)

const macLength = len("02:00:00:00:00:01")

var macText = regexp.MustCompile(`(?i)^([0-9a-f]{2}[:-]){5}[0-9a-f]{2}$`)

// Personal tells whether a fact says who a machine is, where it is plugged in,
// or how it is at the moment, and not what it is made of.
func Personal(f wire.Fact) bool {
	return personalName(f.Category, f.ID, f.Field) || personalValue(f.Field, f.Value)
}

// personalName is what the names of a fact say.
func personalName(category, id, field string) bool {
	switch {
	case category == "lldp", category == "ipmi" && id != "lan", category == "hw" && id == "auxv", category == "system" && id == "detection":
		return true // the switch port; sensors; an address of the kernel; what did not answer this time
	case addressText.MatchString(field), addressText.MatchString(id), blockSize.MatchString(field):
		return true // measured, by the form of the name
	}
	return personalFields.MatchString(field) || smartCounters.MatchString(field)
}

// personalValue is what the form of the value says.
func personalValue(field string, value any) bool {
	switch v := value.(type) {
	case float64:
		return v != math.Trunc(v) && !namedField.MatchString(field)
	case string:
		return strings.Contains(v, ".") && measured.MatchString(v) && !namedField.MatchString(field) ||
			len(v) >= macLength && macText.MatchString(strings.TrimSpace(v))
	}
	return false
}
