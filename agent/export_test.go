package agent

import (
	"io"
	"log/slog"
	"time"

	"edeploy/server/wire"
)

// LogName shows logName to the tests.
func LogName(hw wire.Hardware) string { return logName(hw) }

// NewConsoleLogger is the console and a step's logger on it.
func NewConsoleLogger(w io.Writer, now func() time.Time, step string) *slog.Logger {
	j := &journey{console: &console{out: w, now: now, start: now()}}
	return j.logger(step)
}

// Meter shows meter to the tests.
type Meter struct{ m meter }

// NewMeter makes one for so many bytes.
func NewMeter(total int64) *Meter { return &Meter{meter{total: total}} }

// At is meter.at.
func (m *Meter) At(now time.Time, bytes int64) (string, bool) { return m.m.at(now, bytes) }
