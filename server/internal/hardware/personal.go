package hardware

import (
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
	`|bandwidth|_kbps$|_iops$`)

// smartCounters: of SMART attributes only thresholds say something about the
// model.
var smartCounters = regexp.MustCompile(`^SMART/.*\([0-9]+\)/(value|worst|raw|when_failed)$`)

var macText = regexp.MustCompile(`(?i)^([0-9a-f]{2}[:-]){5}[0-9a-f]{2}$`)

// Personal tells whether a fact says who a machine is, where it is plugged in,
// or how it is at the moment, and not what it is made of.
func Personal(f wire.Fact) bool {
	switch {
	case f.Category == "lldp", f.Category == "ipmi" && f.ID != "lan", f.Category == "hw" && f.ID == "auxv":
		return true // the switch port; sensors; an address of the kernel
	case personalFields.MatchString(f.Field), smartCounters.MatchString(f.Field):
		return true
	}
	return macText.MatchString(strings.TrimSpace(f.Text()))
}
