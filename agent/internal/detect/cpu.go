package detect

import (
	"slices"
	"strconv"
	"strings"
)

// processor is one logical processor of /proc/cpuinfo.
type processor map[string]string

// cpuinfo splits /proc/cpuinfo.
func cpuinfo(r reader) []processor {
	var list []processor
	for block := range strings.SplitSeq(r.text("proc/cpuinfo"), "\n\n") {
		p := processor{}
		for line := range strings.Lines(block) {
			if name, value, ok := strings.Cut(line, ":"); ok {
				p[strings.TrimSpace(name)] = strings.TrimSpace(value)
			}
		}
		if p["processor"] != "" {
			list = append(list, p)
		}
	}
	return list
}

// processors describes the processors (reference section 3.6): names of both
// generations of the original, all as strings.
func processors(r reader, f *facts) {
	logical := cpuinfo(r)
	sockets := sockets(logical)
	f.add("cpu", "physical", "number", strconv.Itoa(len(sockets)))
	f.add("cpu", "logical", "number", strconv.Itoa(len(logical)))
	f.add("cpu", "physical", "smt", r.text("sys/devices/system/cpu/smt/control"))
	for i, first := range sockets {
		socket(r, f, i, first, logical)
	}
}

// sockets are the first logical processors of each physical one. Kernels on
// machines without that knowledge leave it out; then there is one.
func sockets(logical []processor) []processor {
	var firsts []processor
	var seen []string
	for _, p := range logical {
		if id := p["physical id"]; !slices.Contains(seen, id) {
			seen, firsts = append(seen, id), append(firsts, p)
		}
	}
	return firsts
}

func socket(r reader, f *facts, index int, p processor, logical []processor) {
	add := func(field, value string) { f.add("cpu", "physical_"+strconv.Itoa(index), field, value) }
	threads := 0
	for _, other := range logical {
		if other["physical id"] == p["physical id"] {
			threads++
		}
	}
	add("physid", strconv.Itoa(index))
	add("vendor", p["vendor_id"])
	add("product", p["model name"])
	add("architecture", r.text("proc/sys/kernel/arch"))
	add("family", p["cpu family"])
	add("model", p["model"])
	add("stepping", p["stepping"])
	add("version", p["microcode"])
	add("frequency", hertz(p["cpu MHz"]))
	add("cores", p["cpu cores"])
	add("enabled_cores", p["cpu cores"])
	add("threads", strconv.Itoa(threads))
	if cores, err := strconv.Atoi(p["cpu cores"]); err == nil && cores > 0 {
		add("threads_per_core", strconv.Itoa(threads/cores))
	}
	dir := "sys/devices/system/cpu/cpu" + p["processor"]
	add("min_Mhz", megahertz(r.number(dir, "cpufreq/cpuinfo_min_freq")))
	add("max_Mhz", megahertz(r.number(dir, "cpufreq/cpuinfo_max_freq")))
	addCaches(r, dir, add)
	add("flags", p["flags"])
}

// hertz converts the "2900.000" MHz of cpuinfo.
func hertz(mhz string) string {
	value, err := strconv.ParseFloat(mhz, 64)
	if err != nil {
		return ""
	}
	return strconv.FormatInt(int64(value*1_000_000), 10)
}

func megahertz(khz int64) string {
	if khz <= 0 {
		return ""
	}
	return strconv.FormatInt(khz/1000, 10)
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
