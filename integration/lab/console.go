package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
)

// Sizes of a console in memory; the log file holds all of it.
const (
	consoleBytes = 4 << 20 // kept text; the oldest half goes when it is full
	matchBytes   = 8 << 10 // the longest match that is sure to be found
)

// console is what a serial port has said, without terminal sequences.
type console struct {
	log io.Writer // gets every byte as it came

	mu      sync.Mutex
	text    []byte        // cleaned
	base    int           // position of text[0]
	read    int           // position where the next Expect starts
	changed chan struct{} // closed when text grows or the port is over
	over    error         // why no more comes
	clean   cleaner
}

func newConsole(log io.Writer) *console {
	return &console{log: log, changed: make(chan struct{})}
}

// errConsoleOver is the end of a console.
var errConsoleOver = errors.New("the console is closed: the machine has stopped")

// follow takes what r says until it ends.
func (c *console) follow(r io.Reader) {
	buf := make([]byte, 8<<10)
	for {
		n, err := r.Read(buf)
		c.add(buf[:n])
		if err != nil {
			c.end()
			return
		}
	}
}

func (c *console) add(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log.Write(b) // a full disk must not stop the guest
	c.text = c.clean.append(c.text, b)
	if len(c.text) > consoleBytes {
		gone := len(c.text) - consoleBytes/2
		c.text = bytes.Clone(c.text[gone:])
		c.base += gone
		c.read = max(c.read, c.base)
	}
	c.wakeLocked()
}

func (c *console) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over == nil {
		c.over = errConsoleOver
		c.wakeLocked()
	}
}

// next is closed when the console says more.
func (c *console) next() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

func (c *console) wakeLocked() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// expect waits for a match after the last one and moves behind it. The result
// is the match and its groups.
func (c *console) expect(ctx context.Context, re *regexp.Regexp) (match []string, err error) {
	for from := 0; ; {
		c.mu.Lock()
		match, from = c.lookLocked(re, from)
		changed, over := c.changed, c.over
		c.mu.Unlock()
		switch {
		case match != nil:
			return match, nil
		case over != nil:
			return nil, over
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// lookLocked looks for a match at or after the position from; without one it
// answers where to look next.
func (c *console) lookLocked(re *regexp.Regexp, from int) (match []string, next int) {
	from = max(from, c.read, c.base)
	unread := c.text[from-c.base:]
	at := re.FindSubmatchIndex(unread)
	if at == nil {
		return nil, from + lineStart(unread, len(unread)-matchBytes)
	}
	c.read = from + at[1]
	return groups(unread, at), from
}

// lineStart is the start of the line that holds position i of text.
func lineStart(text []byte, i int) int {
	return bytes.LastIndexByte(text[:max(0, i)], '\n') + 1
}

func groups(text []byte, at []int) []string {
	var match []string
	for i := 0; i < len(at); i += 2 {
		group := ""
		if at[i] >= 0 {
			group = string(text[at[i]:at[i+1]])
		}
		match = append(match, group)
	}
	return match
}

// lastLines are the last n lines that are not blank.
func (c *console) lastLines(n int) []string {
	c.mu.Lock()
	tail := string(c.text[max(0, len(c.text)-n*400):])
	c.mu.Unlock()
	var lines []string
	for line := range strings.Lines(tail) {
		if line = strings.TrimRight(line, " \t\n"); line != "" {
			lines = append(lines, line)
		}
	}
	return lines[max(0, len(lines)-n):]
}

// explain is the error of an expectation that was not met.
func (c *console) explain(machine string, re *regexp.Regexp, cause error) error {
	var b strings.Builder
	for _, line := range c.lastLines(reportLines) {
		fmt.Fprintf(&b, "\n    %s", line)
	}
	return fmt.Errorf("console of %s: no match for %q: %w; its last lines:%s", machine, re, cause, b.String())
}

// cleaner takes terminal sequences out of a byte stream (ECMA-48 section 5.4
// and 8.3.14): firmware, boot loaders and systemd colour and place their text.
// A sequence that moves the cursor to a line becomes a line end.
type cleaner struct {
	state  byte // 0 text, else the byte that decides what is skipped
	column int  // bytes since the last line end
}

func (c *cleaner) append(text, b []byte) []byte {
	for _, x := range b {
		switch c.state {
		case 0:
			text = c.plain(text, x)
		case 0x1b:
			c.escape(x)
		case '[':
			text = c.control(text, x)
		case ']': // operating system command, ends with BEL or ESC \
			if x == 0x07 {
				c.state = 0
			} else if x == 0x1b {
				c.state = '('
			}
		default: // one more byte, such as the G of ESC ( G
			c.state = 0
		}
	}
	return text
}

func (c *cleaner) plain(text []byte, x byte) []byte {
	switch {
	case x == 0x1b:
		c.state = x
	case x == '\n':
		c.column = 0
		return append(text, x)
	case x >= ' ' && x != 0x7f, x == '\t':
		c.column++
		return append(text, x)
	}
	return text
}

func (c *cleaner) escape(x byte) {
	switch x {
	case '[', ']', '(', ')', '#', 0x1b:
		c.state = x
	default:
		c.state = 0
	}
}

func (c *cleaner) control(text []byte, x byte) []byte {
	if x < 0x40 || x > 0x7e {
		return text
	}
	c.state = 0
	if (x == 'H' || x == 'f') && c.column > 0 {
		c.column = 0
		return append(text, '\n')
	}
	return text
}
