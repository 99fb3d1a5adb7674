// Package console writes short lines for the person in front of the
// appliance. A console that does not take them (a serial line with flow
// control and nobody there) costs lines, never time.
package console

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"
)

// Console passes lines on to a slow writer.
type Console struct {
	lines chan string
	lost  atomic.Int64
	now   func() time.Time
}

// backlog is how many lines wait for a slow console.
const backlog = 256

// New makes a console; Run writes what it is given.
func New(now func() time.Time) *Console {
	return &Console{lines: make(chan string, backlog), now: now}
}

// Printf adds one line. It never blocks. Control characters, which may come
// from a machine's own words, are replaced.
func (c *Console) Printf(format string, args ...any) {
	line := strings.Map(printable, fmt.Sprintf(format, args...))
	select {
	case c.lines <- c.now().Format("15:04:05 ") + line:
	default:
		c.lost.Add(1)
	}
}

func printable(r rune) rune {
	if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
		return '?'
	}
	return r
}

// Run writes lines until ctx ends; a write error only costs the line.
func (c *Console) Run(ctx context.Context, w io.Writer) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case line := <-c.lines:
			if lost := c.lost.Swap(0); lost > 0 {
				fmt.Fprintf(w, "(%d lines lost: the console is slow)\r\n", lost)
			}
			fmt.Fprint(w, line, "\r\n")
		}
	}
}
