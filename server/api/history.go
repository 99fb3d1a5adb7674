package api

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// HistoryLine is one thing that happened to a machine.
type HistoryLine struct {
	Time    time.Time `json:"time"`
	Step    string    `json:"step"`              // wire.Step, or boot, match, operator
	Status  string    `json:"status"`            // wire.Status, or note
	Seconds float64   `json:"seconds,omitempty"` // how long the step took
	Message string    `json:"message,omitempty"`
}

// maxMessage bounds a message in a line, in bytes.
const maxMessage = 2000

// timeLayout is RFC 3339 with milliseconds.
const timeLayout = "2006-01-02T15:04:05.000Z07:00"

// String is the line as the file has it:
//
//	2026-11-22T10:00:00.000Z transfer done 34.2s 401 MB
func (l HistoryLine) String() string {
	seconds := "-"
	if l.Seconds > 0 {
		seconds = strconv.FormatFloat(l.Seconds, 'f', 1, 64) + "s"
	}
	fields := []string{l.Time.UTC().Format(timeLayout), word(l.Step), word(l.Status), seconds, oneLine(l.Message)}
	return strings.TrimRight(strings.Join(fields, " "), " ")
}

// word makes one word of it.
func word(s string) string {
	s = strings.Join(strings.Fields(oneLine(s)), "_")
	if s == "" {
		return "-"
	}
	return s[:min(len(s), 40)]
}

// oneLine keeps a message from the network from looking like several lines or
// from steering a terminal.
func oneLine(s string) string {
	if len(s) > maxMessage {
		s = s[:maxMessage] + "..."
	}
	s = strings.Map(func(c rune) rune {
		if c == '\n' || c == '\t' {
			return ' '
		}
		if unicode.IsControl(c) {
			return -1
		}
		return c
	}, strings.ToValidUTF8(s, "?"))
	return strings.TrimSpace(s)
}

// ParseHistoryLine reads what String writes.
func ParseHistoryLine(text string) (HistoryLine, error) {
	fields := strings.SplitN(text, " ", 5)
	if len(fields) < 4 {
		return HistoryLine{}, fmt.Errorf("history line %.60q: want time, step, status, seconds, message", text)
	}
	at, err := time.Parse(timeLayout, fields[0])
	if err != nil {
		return HistoryLine{}, fmt.Errorf("history line %.60q: %w", text, err)
	}
	l := HistoryLine{Time: at, Step: fields[1], Status: fields[2]}
	if fields[3] != "-" {
		if l.Seconds, err = strconv.ParseFloat(strings.TrimSuffix(fields[3], "s"), 64); err != nil {
			return HistoryLine{}, fmt.Errorf("history line %.60q: %w", text, err)
		}
	}
	if len(fields) == 5 {
		l.Message = fields[4]
	}
	return l, nil
}
