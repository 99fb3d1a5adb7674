package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"edeploy/server"
	"edeploy/server/wire"
)

// benchHardware is a server with 24 disks and 8 interfaces.
func benchHardware(n int) wire.Hardware {
	var h wire.Hardware
	for i := range 24 {
		disk := fmt.Sprintf("sd%c", 'a'+i)
		h = append(h, fact("disk", disk, "size", "480"), fact("disk", disk, "rotational", "1"), fact("disk", disk, "model", "M480"))
	}
	h = append(h, fact("system", "product", "name", "R7"), fact("cpu", "logical", "number", "64"), fact("memory", "total", "size", "274877906944"))
	for i := range 8 {
		nic := fmt.Sprintf("ens%d", i)
		serial := fmt.Sprintf("02:00:%02x:%02x:%02x:%02x", n>>16&255, n>>8&255, n&255, i)
		h = append(h, fact("network", nic, "serial", serial), fact("network", nic, "size", "10000000000"), fact("network", nic, "link", "yes"))
	}
	return h
}

// benchFiles is profiles with 20 spec lines each. All fit but for the last
// line, except the last profile, which fits.
func benchFiles(profiles int) map[string]string {
	files := map[string]string{}
	var state strings.Builder
	state.WriteString("[")
	for p := range profiles {
		name := fmt.Sprintf("p%03d", p)
		fmt.Fprintf(&state, "('%s', '*'),\n ", name)
		var specs strings.Builder
		specs.WriteString("[\n")
		for line := range 19 {
			fmt.Fprintf(&specs, "  ('disk', '$d%d', 'size', 'ge(%d)'),\n", line, 100+p%100)
		}
		cpus := "32"
		if p == profiles-1 {
			cpus = "64"
		}
		fmt.Fprintf(&specs, "  ('cpu', 'logical', 'number', '%s'),\n]\n", cpus)
		files[name+".specs"] = specs.String()
		files[name+".configure"] = "set_role('base', '1', '/dev/sda')\n"
	}
	state.WriteString("]\n")
	files["state"] = state.String()
	return files
}

// BenchmarkUpload200Profiles is one upload of a new machine through the
// handler: 200 profiles x 20 spec lines, none but the last fitting, answer
// made and record on the disk.
func BenchmarkUpload200Profiles(b *testing.B) {
	l := newLab(b, benchFiles(200))
	l.limits = server.Limits{Machines: 1 << 20, NewPerPeer: 1 << 20, ArchiveBytes: 1 << 40}
	l.quiet = true
	l.start()
	l.mustGet(benchHardware(0))
	n := 0
	for b.Loop() {
		n++
		if a := l.upload(benchHardware(n)); a.status != http.StatusOK {
			b.Fatal(a.body)
		}
	}
}
