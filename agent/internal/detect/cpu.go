package detect

import (
	"slices"
	"strconv"
	"strings"

	"github.com/jaypipes/ghw/pkg/cpu"
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

// processors describes the processors (reference section 3.6): names of both
// generations of the original, all as strings.
func processors(r reader, f *facts, all *cpu.Info) {
	f.add("cpu", "physical", "number", strconv.Itoa(len(all.Processors)))
	f.add("cpu", "logical", "number", decimal(all.TotalHardwareThreads))
	f.add("cpu", "physical", "smt", r.text("sys/devices/system/cpu/smt/control"))
	logical := cpuinfo(r)
	for i, physical := range all.Processors {
		first := strconv.Itoa(firstLogical(physical))
		socket(r, f, i, physical, first, logical[first])
	}
}

// firstLogical is the lowest number of a logical processor of a physical one.
func firstLogical(physical *cpu.Processor) int {
	var numbers []int
	for _, core := range physical.Cores {
		numbers = append(numbers, core.LogicalProcessors...)
	}
	return slices.Min(numbers) // ghw has seen at least one, or there were no processor
}

// socket describes a physical processor: first is the number of its first
// logical one, info what /proc/cpuinfo says about that.
func socket(r reader, f *facts, index int, physical *cpu.Processor, first string, info processor) {
	add := func(field, value string) { f.add("cpu", "physical_"+strconv.Itoa(index), field, value) }
	add("physid", strconv.Itoa(index))
	add("vendor", physical.Vendor)
	add("product", physical.Model)
	add("architecture", r.text("proc/sys/kernel/arch"))
	add("family", info["cpu family"])
	add("model", info["model"])
	add("stepping", info["stepping"])
	add("version", info["microcode"])
	add("frequency", hertz(info["cpu MHz"]))
	add("cores", decimal(physical.TotalCores))
	add("enabled_cores", decimal(physical.TotalCores))
	add("threads", decimal(physical.TotalHardwareThreads))
	add("threads_per_core", decimal(physical.TotalHardwareThreads/physical.TotalCores))
	dir := "sys/devices/system/cpu/cpu" + first
	add("min_Mhz", megahertz(r.text(dir, "cpufreq/cpuinfo_min_freq")))
	add("max_Mhz", megahertz(r.text(dir, "cpufreq/cpuinfo_max_freq")))
	addCaches(r, dir, add)
	add("flags", strings.Join(physical.Capabilities, " "))
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
func numa(r reader, f *facts) {
	nodes := r.glob("sys/devices/system/node/node[0-9]*")
	if len(nodes) == 0 {
		return
	}
	f.add("numa", "nodes", "count", strconv.Itoa(len(nodes)))
	for _, dir := range nodes {
		mask := strings.TrimLeft(strings.ReplaceAll(r.text(dir, "cpumap"), ",", ""), "0")
		id := "node_" + strings.TrimPrefix(dir, "sys/devices/system/node/node")
		f.add("numa", id, "cpu_count", strconv.Itoa(len(r.glob(dir, "cpu[0-9]*"))))
		f.add("numa", id, "cpu_mask", "0x"+mask)
	}
}
