package detect

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// megaRAID describes LSI's and Dell's controllers, by the tool MegaCli.
func megaRAID(ctx context.Context, r reader, f *facts) error {
	name, text, err := firstProgram(ctx, r, []string{"megacli", "MegaCli", "MegaCli64"}, "-adpCount")
	controllers, _ := strconv.Atoi(valueOf(properties(text), "ControllerCount"))
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
	for _, p := range properties(m.ask("-adpallinfo", adapter)) {
		m.f.add("megaraid", id, p.key, p.value)
	}
	for _, part := range parts(m.ask("-EncInfo", adapter), regexp.MustCompile(` +Enclosure [0-9]+:`)) {
		m.enclosure(id, adapter, part)
	}
	drives, _ := strconv.Atoi(valueOf(properties(m.ask("-LDGetNum", adapter)), fmt.Sprintf("NumberOfVirtualDrivesConfiguredOnAdapter%d", c)))
	for l := range min(drives, mostSlots) {
		m.logical(l, adapter)
	}
}

// parts are the pieces of a text that begin with a line of a form.
func parts(text string, begin *regexp.Regexp) []string {
	var list []string
	for line := range strings.Lines(text) {
		if begin.MatchString(line) {
			list = append(list, "")
		}
		if len(list) > 0 {
			list[len(list)-1] += line
		}
	}
	return list
}

var enclosureNumber = regexp.MustCompile(`Enclosure ([0-9]+):`)

func (m *megacli) enclosure(controller, adapter, text string) {
	number := enclosureNumber.FindStringSubmatch(text)[1]
	list := properties(text)
	for _, p := range list {
		if !strings.Contains(p.key, "ExitCode") && !strings.Contains(p.key, "Enclosure") {
			m.f.add("megaraid", controller+"/Enclosure_"+number, p.key, p.value)
		}
	}
	slots, _ := strconv.Atoi(valueOf(list, "NumberOfSlots"))
	for slot := range min(slots, mostSlots) {
		m.physical(valueOf(list, "DeviceId"), slot, adapter)
	}
	if m.size > 0 {
		m.f.add("pdisk", "all", "size", fmt.Sprintf("%.2f", m.size))
	}
}

func (m *megacli) physical(enclosure string, slot int, adapter string) {
	list := properties(m.ask("-pdinfo", fmt.Sprintf("-PhysDrv[%s:%d]", enclosure, slot), adapter))
	kind := valueOf(list, "PdType")
	if kind == "" {
		return // an empty slot
	}
	m.disks++
	add := func(field, value string) { m.f.add("pdisk", fmt.Sprintf("disk%d", slot), field, value) }
	add("ctrl", strconv.Itoa(m.controllers))
	add("type", kind)
	add("id", fmt.Sprintf("%s:%d", valueOf(list, "EnclosureDeviceId"), slot))
	size := gigabytes(firstWords(valueOf(list, "CoercedSize"), 2))
	if n, err := strconv.ParseFloat(size, 64); err == nil {
		m.size += n
	}
	add("size", size)
	for _, p := range list {
		m.property(add, p)
	}
}

func (m *megacli) property(add func(field, value string), p property) {
	switch {
	case slices.Contains([]string{"PdType", "EnclosureDeviceId", "CoercedSize", "ExitCode"}, p.key):
	case strings.Contains(p.key, "DriveTemperature"):
		degrees, _, celsius := strings.Cut(firstWords(p.value, 1), "C") // "34C (93.20 F)"
		add(p.key, degrees)
		if celsius {
			add(p.key+"_units", "Celsius")
		}
	case strings.Contains(p.key, "InquiryData"):
		for i, word := range strings.Fields(p.value) {
			add(fmt.Sprintf("%s[%d]", p.key, i), word)
		}
	default:
		add(p.key, p.value)
	}
}

func firstWords(text string, n int) string {
	words := strings.Fields(text)
	return strings.Join(words[:min(n, len(words))], " ")
}

func (m *megacli) logical(number int, adapter string) {
	for _, p := range properties(m.ask("-LDInfo", fmt.Sprintf("-L%d", number), adapter)) {
		if p.key == "Size" {
			p.value = gigabytes(p.value)
		}
		m.f.add("ldisk", fmt.Sprintf("disk%d", number), p.key, p.value)
	}
}
