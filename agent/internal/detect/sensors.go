package detect

import (
	"context"
	"path"
	"strings"
)

// temperatures reads the sensors that have a driver (hwmon), in thousandths of
// a degree Celsius: those of Intel's processors by the original's names
// (reference section 3.6), others, which it does not have, by their driver's.
func temperatures(_ context.Context, r reader, f *facts) error {
	used := map[string]int{}
	for _, dir := range r.glob("sys/class/hwmon/hwmon*") {
		name := r.text(dir, "name")
		category, id := "hwmon", name
		if package_, ok := strings.CutPrefix(r.link(dir, "device"), "coretemp."); ok {
			category, id = "cpu", "physical_"+package_
		} else if used[name]++; used[name] > 1 {
			id += "." + decimal(uint64(used[name]))
		}
		for _, file := range r.glob(dir, "temp[0-9]*_input") {
			sensor(r, f, category, id, strings.TrimSuffix(file, "_input"))
		}
	}
	return nil
}

func sensor(r reader, f *facts, category, id, file string) {
	label := strings.Join(strings.Fields(r.text(file+"_label")), "_")
	if label == "" {
		label = path.Base(file)
	}
	for _, value := range []struct{ suffix, field string }{
		{"_input", "temperature"}, {"_max", "max"}, {"_crit", "critical"}, {"_crit_alarm", "critical_alarm"},
	} {
		f.add(category, id, label+"/"+value.field, r.text(file+value.suffix))
	}
}

// tpm describes Trusted Platform Modules, which the original does not.
func tpm(_ context.Context, r reader, f *facts) error {
	for _, dir := range r.glob("sys/class/tpm/tpm[0-9]*") {
		add := func(field, value string) { f.add("tpm", path.Base(dir), field, value) }
		add("version", r.text(dir, "tpm_version_major"))
		add("description", r.text(dir, "device/description"))
		add("driver", r.link(dir, "device/driver"))
	}
	return nil
}
