package detect

import (
	"cmp"
	"context"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/u-root/u-root/pkg/smbios"
)

// processor is one logical processor of /proc/cpuinfo.
type processor map[string]string

// cpuinfo splits /proc/cpuinfo, by number of the processor.
func cpuinfo(r reader) map[string]processor {
	all := map[string]processor{}
	for block := range strings.SplitSeq(r.text("proc/cpuinfo"), "\n\n") {
		p := processor{}
		for line := range strings.Lines(block) {
			if name, value, ok := strings.Cut(line, ":"); ok {
				p[strings.TrimSpace(name)] = strings.TrimSpace(value)
			}
		}
		all[p["processor"]] = p
	}
	return all
}

// socket is a physical processor.
type socket struct {
	id      int       // physical_package_id; -1 where the kernel does not know
	first   int       // number of its first logical processor
	info    processor // what /proc/cpuinfo says of that
	cores   map[int]bool
	threads int
}

// sockets are the physical processors with at least one logical one that is
// online, by id.
func sockets(r reader) []*socket {
	logical := cpuinfo(r)
	byID := map[int]*socket{}
	for _, dir := range r.glob("sys/devices/system/cpu/cpu[0-9]*") {
		number, err := strconv.Atoi(strings.TrimPrefix(path.Base(dir), "cpu"))
		if err != nil || r.text(dir, "online") == "0" {
			continue
		}
		id := orUnknown(r, dir, "topology/physical_package_id")
		s := byID[id]
		if s == nil {
			info, known := logical[strconv.Itoa(number)]
			if !known {
				continue
			}
			s = &socket{id: id, first: number, info: info, cores: map[int]bool{}}
			byID[id] = s
		}
		s.cores[orUnknown(r, dir, "topology/core_id")] = true
		s.threads++
	}
	return slices.SortedFunc(maps.Values(byID), func(a, b *socket) int { return cmp.Compare(a.id, b.id) })
}

func orUnknown(r reader, dir, file string) int {
	n, ok := r.number(dir, file)
	if !ok {
		return -1
	}
	return int(n)
}

// threads is the number of logical processors.
func threads(all []*socket) int {
	n := 0
	for _, s := range all {
		n += s.threads
	}
	return n
}

// processors describes the processors (reference section 3.6): names of both
// generations of the original, all as strings; vulnerabilities are not there.
func processors(_ context.Context, r reader, f *facts) error {
	all := sockets(r)
	f.count("cpu", "physical", "number", len(all))
	f.count("cpu", "logical", "number", threads(all))
	f.add("cpu", "physical", "smt", r.text("sys/devices/system/cpu/smt/control"))
	clocks := busClocks(r)
	for i, s := range all {
		s.describe(r, f, i)
		if len(clocks) == len(all) {
			f.add("cpu", "physical_"+strconv.Itoa(i), "clock", clocks[i])
		}
	}
	for _, dir := range r.glob("sys/devices/system/cpu/cpu[0-9]*") {
		f.add("cpu", "logical_"+strings.TrimPrefix(path.Base(dir), "cpu"), "governor", r.text(dir, "cpufreq/scaling_governor"))
	}
	for _, file := range r.glob("sys/devices/system/cpu/vulnerabilities/*") {
		f.add("cpu", "vulnerabilities", path.Base(file), r.text(file))
	}
	return nil
}

// populated is a bit of a processor's status (DSP0134, 7.5).
const populated = 1 << 6

// busClocks are the clocks of the bus, in Hz, that the firmware says of its
// plugged processors. Tables that cannot be read are named by the memory.
func busClocks(r reader) (clocks []string) {
	_ = eachTable(r, smbios.TableTypeProcessorInfo, func(t *smbios.Table) error {
		p, err := smbios.ParseProcessorInfo(t)
		if err == nil && p.Status&populated != 0 && p.ExternalClock > 0 {
			clocks = append(clocks, decimal(uint64(p.ExternalClock)*1_000_000))
		}
		return err
	})
	return clocks
}

func (s *socket) describe(r reader, f *facts, index int) {
	add := func(field, value string) { f.add("cpu", "physical_"+strconv.Itoa(index), field, value) }
	cores := len(s.cores)
	add("physid", strconv.Itoa(index))
	add("vendor", s.info["vendor_id"])
	add("product", s.info["model name"])
	add("architecture", r.text("proc/sys/kernel/arch"))
	add("family", s.info["cpu family"])
	add("model", s.info["model"])
	add("stepping", s.info["stepping"])
	add("version", s.info["microcode"])
	add("frequency", hertz(s.info["cpu MHz"]))
	add("cores", strconv.Itoa(cores))
	add("enabled_cores", strconv.Itoa(cores))
	add("threads", strconv.Itoa(s.threads))
	add("threads_per_core", strconv.Itoa(s.threads/cores))
	dir := "sys/devices/system/cpu/cpu" + strconv.Itoa(s.first)
	add("min_Mhz", megahertz(r.text(dir, "cpufreq/cpuinfo_min_freq")))
	add("max_Mhz", megahertz(r.text(dir, "cpufreq/cpuinfo_max_freq")))
	add("current_Mhz", megahertz(r.text(dir, "cpufreq/scaling_cur_freq")))
	add("boost", boost(r))
	addCaches(r, dir, add)
	add("flags", cmp.Or(s.info["flags"], s.info["Features"]))
}

// boost is whether clocks above the nominal one are allowed; intel_pstate says
// it the other way round.
func boost(r reader) string {
	switch {
	case r.text("sys/devices/system/cpu/cpufreq/boost") == "1", r.text("sys/devices/system/cpu/intel_pstate/no_turbo") == "0":
		return "enabled"
	case r.text("sys/devices/system/cpu/cpufreq/boost") == "0", r.text("sys/devices/system/cpu/intel_pstate/no_turbo") == "1":
		return "disabled"
	}
	return ""
}

// hertz converts the "2900.000" MHz of cpuinfo.
func hertz(mhz string) string {
	value, err := strconv.ParseFloat(mhz, 64)
	if err != nil {
		return ""
	}
	return strconv.FormatInt(int64(value*1_000_000), 10)
}

func megahertz(khz string) string {
	value, err := strconv.Atoi(khz)
	if err != nil || value <= 0 {
		return ""
	}
	return strconv.Itoa(value / 1000)
}

// addCaches names caches as lscpu does: "l1d cache".
func addCaches(r reader, dir string, add func(field, value string)) {
	for _, cache := range r.glob(dir, "cache/index*") {
		level := r.text(cache, "level")
		switch r.text(cache, "type") {
		case "Data":
			level += "d"
		case "Instruction":
			level += "i"
		}
		add("l"+level+" cache", r.text(cache, "size"))
	}
}

// numa describes the memory nodes (reference section 3.6).
func numa(_ context.Context, r reader, f *facts) error {
	nodes := r.glob("sys/devices/system/node/node[0-9]*")
	if len(nodes) == 0 {
		return nil
	}
	f.count("numa", "nodes", "count", len(nodes))
	for _, dir := range nodes {
		mask := strings.TrimLeft(strings.ReplaceAll(r.text(dir, "cpumap"), ",", ""), "0")
		id := "node_" + strings.TrimPrefix(dir, "sys/devices/system/node/node")
		f.count("numa", id, "cpu_count", len(r.glob(dir, "cpu[0-9]*")))
		f.add("numa", id, "cpu_mask", "0x"+mask)
	}
	return nil
}
