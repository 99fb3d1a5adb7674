package expectation

import (
	"regexp"
	"strings"

	"edeploy/server/internal/hardware"
	"edeploy/server/wire"
)

// software are fields that follow from kernel, driver or settings: another
// release of the appliance must not make every machine another one.
var software = regexp.MustCompile(`(?i)^(driver|kernel|flags|scheduler|nr_requests|optimal_io_size|governor|mitigations?|mtu)$` +
	`|^driver[-_ ]|[-_ ]driver$|governor|vulnerabilit|^(rx|tx)-|offload| cache (en|dis)able$`)

// measured are those of controllers (reference section 3.6) that tell how
// something is, as "FirmwareState" and "ShieldCounter".
var measured = regexp.MustCompile(`State$|^(physical_)?state$|[a-z]Count(er)?$|SeqNumber$|ExitCode|Temp\.|ErrorRate|Diagnostics|Alert$|critical_alarm$`)

// outside are things that are measured or set as a whole; "" is any of the
// category.
var outside = map[[2]string]bool{
	{"system", "kernel"}: true, {"system", "os"}: true, {"cpu", "vulnerabilities"}: true, {"hwmon", ""}: true, {"temperature", ""}: true,
	{"ipmi", ""}: true, {"ldisk", ""}: true, {"areca", "hardware"}: true, {"areca", "config"}: true, {"areca", "power"}: true,
}

// modelField: of the groups of a disk (SMART/..., nvme/...) such fields say which
// model it is; the others are measured.
var modelField = regexp.MustCompile(`(?i)firmware|model|product|vendor|revision|capacity`)

// switched is the value of a setting of a network driver.
var switched = regexp.MustCompile(`^(on|off)( \[.*\])?$`)

// Identifies tells whether a fact says what a machine is made of: it is
// compared with a bill. Those do not that package hardware calls personal
// (serials, addresses, measurements), and those that the software makes.
func Identifies(f wire.Fact) bool {
	switch {
	case outside[[2]string{f.Category, f.ID}], outside[[2]string{f.Category, ""}]:
		return false
	case hardware.Personal(f), software.MatchString(f.Field), measured.MatchString(f.Field):
		return false
	case f.Category == "cpu" && strings.Contains(f.Field, "/"): // sensors of its cores
		return false
	case f.Category == "disk" && strings.Contains(f.Field, "/") && !modelField.MatchString(f.Field):
		return false
	case f.Category == "network" && switched.MatchString(f.Text()):
		return false
	}
	return true
}
