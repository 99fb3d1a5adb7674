package detect

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"edeploy/agent/internal/raidtool"
)

// megaRAID describes LSI's and Dell's controllers, by the tool MegaCli.
func megaRAID(ctx context.Context, r reader, f *facts) error {
	name, text, err := firstProgram(ctx, r, raidtool.MegaRAID, "-adpCount")
	controllers, _ := strconv.Atoi(raidtool.Value(raidtool.Properties(text), "ControllerCount"))
	if err != nil || controllers == 0 {
		return err
	}
	m := megacli{ctx: ctx, r: r, f: f, name: name, controllers: min(controllers, mostControllers)}
	for c := range m.controllers {
		m.controller(c)
	}
	f.count("disk", "megaraid", "count", m.disks)
	return m.problem
}

// megacli asks one question after the other; the first problem ends it.
type megacli struct {
	ctx         context.Context
	r           reader
	f           *facts
	name        string
	controllers int
	disks       int
	size        float64 // of all disks so far, GB
	problem     error
}

// ask is a command's output, whatever its exit status: it is often a count.
func (m *megacli) ask(args ...string) string {
	if m.problem != nil {
		return ""
	}
	out, err := m.r.run(m.ctx, append([]string{m.name}, args...)...)
	m.problem = err
	return out.Text
}

func (m *megacli) controller(c int) {
	adapter := fmt.Sprintf("-a%d", c)
	id := fmt.Sprintf("Controller_%d", c)
	for _, p := range raidtool.Properties(m.ask("-adpallinfo", adapter)) {
		m.f.add("megaraid", id, p.Key, p.Value)
	}
	for _, enclosure := range raidtool.Enclosures(m.ask("-EncInfo", adapter)) {
		m.enclosure(id, adapter, enclosure)
	}
	drives, _ := strconv.Atoi(raidtool.Value(raidtool.Properties(m.ask("-LDGetNum", adapter)), fmt.Sprintf("NumberOfVirtualDrivesConfiguredOnAdapter%d", c)))
	for l := range min(drives, mostSlots) {
		m.logical(l, adapter)
	}
}

func (m *megacli) enclosure(controller, adapter string, is raidtool.Enclosure) {
	for _, p := range is.Properties {
		if !strings.Contains(p.Key, "ExitCode") && !strings.Contains(p.Key, "Enclosure") {
			m.f.add("megaraid", fmt.Sprintf("%s/Enclosure_%d", controller, is.Number), p.Key, p.Value)
		}
	}
	slots, _ := strconv.Atoi(raidtool.Value(is.Properties, "NumberOfSlots"))
	for slot := range min(slots, mostSlots) {
		m.physical(raidtool.Value(is.Properties, "DeviceId"), slot, adapter)
	}
	if m.size > 0 {
		m.f.add("pdisk", "all", "size", fmt.Sprintf("%.2f", m.size))
	}
}

func (m *megacli) physical(enclosure string, slot int, adapter string) {
	list := raidtool.Properties(m.ask("-pdinfo", fmt.Sprintf("-PhysDrv[%s:%d]", enclosure, slot), adapter))
	kind := raidtool.Value(list, "PdType")
	if kind == "" {
		return // an empty slot
	}
	m.disks++
	add := func(field, value string) { m.f.add("pdisk", fmt.Sprintf("disk%d", slot), field, value) }
	add("ctrl", strconv.Itoa(m.controllers))
	add("type", kind)
	add("id", fmt.Sprintf("%s:%d", raidtool.Value(list, "EnclosureDeviceId"), slot))
	size := gigabytes(firstWords(raidtool.Value(list, "CoercedSize"), 2))
	if n, err := strconv.ParseFloat(size, 64); err == nil {
		m.size += n
	}
	add("size", size)
	for _, p := range list {
		m.property(add, p)
	}
}

func (m *megacli) property(add func(field, value string), p raidtool.Property) {
	switch {
	case slices.Contains([]string{"PdType", "EnclosureDeviceId", "CoercedSize", "ExitCode"}, p.Key):
	case strings.Contains(p.Key, "DriveTemperature"):
		degrees, _, celsius := strings.Cut(firstWords(p.Value, 1), "C") // "34C (93.20 F)"
		add(p.Key, degrees)
		if celsius {
			add(p.Key+"_units", "Celsius")
		}
	case strings.Contains(p.Key, "InquiryData"):
		for i, word := range strings.Fields(p.Value) {
			add(fmt.Sprintf("%s[%d]", p.Key, i), word)
		}
	default:
		add(p.Key, p.Value)
	}
}

func firstWords(text string, n int) string {
	words := strings.Fields(text)
	return strings.Join(words[:min(n, len(words))], " ")
}

func (m *megacli) logical(number int, adapter string) {
	for _, p := range raidtool.Properties(m.ask("-LDInfo", fmt.Sprintf("-L%d", number), adapter)) {
		if p.Key == "Size" {
			p.Value = gigabytes(p.Value)
		}
		m.f.add("ldisk", fmt.Sprintf("disk%d", number), p.Key, p.Value)
	}
}
