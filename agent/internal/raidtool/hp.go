package raidtool

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Controller is a line of "ctrl all show".
type Controller struct {
	Slot          int
	Model, Serial string // Serial is "" where the line has none
}

// controller is such a line: Smart Array P440ar in Slot 0 (Embedded)   (sn: PDNLH0BRH8R2AB)
var controller = regexp.MustCompile(`(?m)^(.*) in Slot ([0-9]+)(?:.*\(sn: ([^)\n]*)\))?`)

// Controllers are those of "ctrl all show".
func Controllers(text string) []Controller {
	var list []Controller
	for _, m := range controller.FindAllStringSubmatch(text, -1) {
		if slot, err := strconv.Atoi(m[2]); err == nil {
			list = append(list, Controller{slot, strings.TrimSpace(m[1]), strings.TrimSpace(m[3])})
		}
	}
	return list
}

// Group is an array with its drives, or those that belong to none.
type Group struct {
	Title  string // "array A", "unassigned", as the program writes it
	Drives []Drive
}

// Drive is a line of a group. A physical drive is
//
//	physicaldrive 1I:1:1 (port 1I:box 1:bay 1, SAS, 600 GB, OK)
//
// and a logical one
//
//	logicaldrive 1 (93.1 GB, RAID 1, OK)
type Drive struct {
	ID    string
	Facts [3]string // type, size, status; of a logical drive size, level, status
}

var (
	physical = regexp.MustCompile(`^physicaldrive (\S+) \([^,]*,(.*?)\)?$`)
	logical  = regexp.MustCompile(`^logicaldrive (\S+) \((.*?)\)?$`)
)

// PhysicalDrives are the groups of "pd all show".
func PhysicalDrives(text string) []Group { return groups(text, physical) }

// LogicalDrives are the groups of "ld all show".
func LogicalDrives(text string) []Group { return groups(text, logical) }

// groups are the arrays, and what else is a title of drives ("HBA Drives").
func groups(text string, drive *regexp.Regexp) []Group {
	var list []Group
	title, begun := "", false // there is a group of this title
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		m := drive.FindStringSubmatch(line)
		low := strings.ToLower(line)
		switch {
		case m == nil && line != "":
			title, begun = line, strings.HasPrefix(low, "array") || low == "unassigned"
			if begun {
				list = append(list, Group{Title: title})
			}
		case m != nil:
			if !begun {
				list, begun = append(list, Group{Title: title}), true
			}
			last := &list[len(list)-1]
			last.Drives = append(last.Drives, readDrive(m))
		}
	}
	return list
}

func readDrive(m []string) Drive {
	d := Drive{ID: m[1]}
	for i, fact := range strings.SplitN(m[2], ",", 4) {
		if i < len(d.Facts) {
			d.Facts[i] = strings.TrimSpace(fact)
		}
	}
	return d
}

// ControllerProperties are the lines of "ctrl slot=N show".
func ControllerProperties(text string) []Property { return lowerProperties(text, "slot") }

// DriveProperties are the lines of "pd ID show", the letter of its array first.
func DriveProperties(text string) []Property {
	var list []Property
	for line := range strings.Lines(text) {
		if word := strings.Fields(line); len(word) > 1 && strings.EqualFold(word[0], "array") {
			list = set(list, "array", word[1])
		}
	}
	return append(list, lowerProperties(text, "port", "bay", "box")...)
}

var lowerKey = strings.NewReplacer(" ", "_", "(", "", ")", "")

// lowerProperties are lines "Key: value", keys in lower case with "_" for blanks.
func lowerProperties(text string, without ...string) []Property {
	var list []Property
	for line := range strings.Lines(text) {
		part := strings.Split(line, ": ")
		if len(part) < 2 {
			continue
		}
		key := strings.ReplaceAll(lowerKey.Replace(strings.ToLower(strings.TrimSpace(part[0]))), "__", "_")
		value := strings.Join(strings.Fields(part[1]), " ")
		if !slices.Contains(without, key) && key != "" && value != "" {
			list = set(list, key, value)
		}
	}
	return list
}

// LogicalProperties are the lines of "ld ID show" with their keys as they are. A
// line may have two: "Disk Name: /dev/sda          Mount Points: None". A key
// without a value (Mirror Group 0) gets the drive of the next line.
func LogicalProperties(text string) []Property {
	var list []Property
	waits := "" // the key that has its value in the next line
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if waits != "" {
			if m := physical.FindStringSubmatch(line); m != nil {
				line = m[1]
			}
			list, waits = set(list, waits, line), ""
			continue
		}
		switch part := strings.Split(line, ":"); {
		case len(part) == 2 && part[1] == "":
			waits = strings.TrimSpace(part[0])
		case len(part) == 2:
			list = set(list, strings.TrimSpace(part[0]), strings.TrimSpace(part[1]))
		case len(part) == 3:
			value, second, _ := strings.Cut(strings.TrimSpace(part[1]), " ")
			list = set(list, strings.TrimSpace(part[0]), value)
			if second = strings.TrimSpace(second); second != "" {
				list = set(list, second, strings.TrimSpace(part[2]))
			}
		}
	}
	return list
}

// Devices are the devices in lines "Disk Name: /dev/sda", in the order of the text.
func Devices(text string) []string {
	var list []string
	for _, m := range diskName.FindAllStringSubmatch(text, -1) {
		list = append(list, m[1])
	}
	return list
}

var diskName = regexp.MustCompile(`(?m)^\s*Disk Name:\s*(/dev/\S+)`)

// refusal is how the programs say what they have not done.
var refusal = regexp.MustCompile(`(?m)Error: (.*)$`)

// Refusal is why a program has not done what it was told; "" where it has.
// Nothing tells that there is no such thing on the controller: no logical
// drives, no physical ones.
func Refusal(text string) (why string, nothing bool) {
	m := refusal.FindStringSubmatch(text)
	if m == nil {
		return "", false
	}
	return strings.TrimSpace(m[1]), strings.Contains(m[1], "does not have any")
}
