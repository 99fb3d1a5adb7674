// Package awaited reads the list of machines that are to come: CSV (RFC 4180),
// a machine a line, by its MAC address or its serial:
//
//	52:54:00:12:34:56,node1,LAB,R1,12
//	CZ2D1X0F3K,node2,LAB,R1,13
//
// What is missing at the end of a line is not known. A first line that names
// the columns (mac, serial, name, section, rack, unit) gives them another
// order, and mac and serial columns of their own. Lines that begin with "#" are
// comments.
package awaited

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"edeploy/server/internal/machine"
	"edeploy/server/wire"
)

// MaxBytes bounds a list.
const MaxBytes = 1 << 20

// Machine is a line of the list.
type Machine struct {
	Line        int
	MAC, Serial string // one is there at least
	Name        string
	Section     string // deployment; "": the default one
	Rack, Unit  string
}

// Identity is what the machine shows when it comes.
func (m Machine) Identity() wire.Identity {
	is := wire.Identity{Serial: m.Serial}
	if m.MAC != "" {
		is.MACs = []string{m.MAC}
	}
	return is
}

// either is the column of a list without a heading that holds a MAC address or
// a serial.
const either = "mac or serial"

var columns = []string{"mac", "serial", "name", "section", "rack", "unit"}

// Parse reads a list. The error is one sentence that begins with the line.
func Parse(text string) ([]Machine, error) {
	for i, line := range strings.Split(text, "\n") {
		if !utf8.ValidString(line) {
			return nil, fmt.Errorf("line %d: it is no UTF-8 text", i+1)
		}
	}
	r := csv.NewReader(strings.NewReader(strings.TrimPrefix(text, "\ufeff")))
	r.Comment, r.FieldsPerRecord, r.TrimLeadingSpace = '#', -1, true
	l := list{heading: []string{either, "name", "section", "rack", "unit"}, lines: map[string]int{}}
	for first := true; ; first = false {
		fields, err := r.Read()
		var wrong *csv.ParseError
		switch {
		case errors.Is(err, io.EOF) && len(l.all) == 0:
			return nil, errors.New("line 1: the list has no machines")
		case errors.Is(err, io.EOF):
			return l.all, nil
		case errors.As(err, &wrong):
			return nil, fmt.Errorf("line %d: %w", wrong.Line, wrong.Err)
		case err != nil:
			return nil, err
		}
		line, _ := r.FieldPos(0)
		if first && isHeading(fields) {
			err = l.head(fields)
		} else {
			err = l.add(line, fields)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
	}
}

// list is one that is being read.
type list struct {
	heading []string
	all     []Machine
	lines   map[string]int // of addresses, serials and names
}

func isHeading(fields []string) bool {
	return slices.ContainsFunc(fields, func(f string) bool { return strings.EqualFold(strings.TrimSpace(f), "name") }) ||
		slices.Contains([]string{"mac", "serial", either}, strings.ToLower(strings.TrimSpace(fields[0])))
}

func (l *list) head(fields []string) error {
	l.heading = nil
	for _, f := range fields {
		f = strings.ToLower(strings.TrimSpace(f))
		switch {
		case f != either && !slices.Contains(columns, f):
			return fmt.Errorf("%q is no column: want %s", f, strings.Join(columns, ", "))
		case slices.Contains(l.heading, f):
			return fmt.Errorf("the column %s is there twice", f)
		}
		l.heading = append(l.heading, f)
	}
	return nil
}

func (l *list) add(line int, fields []string) error {
	if len(fields) > len(l.heading) {
		return fmt.Errorf("it has %d fields, want %d: %s", len(fields), len(l.heading), strings.Join(l.heading, ", "))
	}
	m := Machine{Line: line}
	for i, text := range fields {
		if err := m.set(l.heading[i], strings.TrimSpace(text)); err != nil {
			return err
		}
	}
	if m.MAC == "" && m.Serial == "" {
		return errors.New("a MAC address or a serial is missing: nothing tells the machine when it comes")
	}
	for _, is := range []struct{ what, text string }{{"MAC address", m.MAC}, {"serial", m.Serial}, {"name", m.Name}} {
		key := is.what + " " + strings.ToLower(is.text)
		if before, twice := l.lines[key]; twice && is.text != "" {
			return fmt.Errorf("the %s %s is in line %d already", is.what, is.text, before)
		}
		l.lines[key] = line
	}
	l.all = append(l.all, m)
	return nil
}

var (
	nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
	// nearlyMAC is an address with a mistake, which would be taken for a serial.
	nearlyMAC = regexp.MustCompile(`^[0-9A-Za-z]{1,2}([:-][0-9A-Za-z]{1,2}){4,6}$|:.*:`)
)

const maxText = 64

func (m *Machine) set(column, text string) error {
	if len(text) > maxText || strings.ContainsFunc(text, unicode.IsControl) {
		return fmt.Errorf("%s %.20q: want a text of at most %d bytes without control characters", column, text, maxText)
	}
	switch column {
	case "mac":
		return m.setMAC(text)
	case "serial":
		return m.setSerial(text)
	case either:
		if wire.NormalMAC(text) != "" || nearlyMAC.MatchString(text) {
			return m.setMAC(text)
		}
		return m.setSerial(text)
	case "name":
		if text != "" && (!nameForm.MatchString(text) || wire.NormalMAC(text) != "") {
			return fmt.Errorf("name %q: want letters, digits, dots, dashes and underscores, and no MAC address", text)
		}
		m.Name = text
	case "section":
		m.Section = text
	case "rack":
		m.Rack = text
	case "unit":
		m.Unit = text
	}
	return nil
}

func (m *Machine) setMAC(text string) error {
	if m.MAC = wire.NormalMAC(text); text != "" && !machine.GenuineMAC(m.MAC) {
		return fmt.Errorf("%q is no MAC address of an adapter", text)
	}
	return nil
}

func (m *Machine) setSerial(text string) error {
	if text != "" && !machine.Genuine(text) {
		return fmt.Errorf("the serial %q tells no machine from others", text)
	}
	m.Serial = text
	return nil
}
