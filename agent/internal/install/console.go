package install

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// console is what the operator sees and what the log keeps. Its own lines
// start with the time since the agent started; the output of commands goes
// through as it is.
type console struct {
	mu    sync.Mutex
	out   io.Writer
	now   func() time.Time
	start time.Time
}

// printf writes one line, or several that belong together.
func (c *console) printf(format string, args ...any) {
	text := strings.TrimRight(fmt.Sprintf(format, args...), "\n")
	c.mu.Lock()
	defer c.mu.Unlock()
	// There is nobody to tell that the console is gone.
	_, _ = fmt.Fprintf(c.out, "[%6.1fs] %s\n", c.now().Sub(c.start).Seconds(), text)
}

// Write takes the output of commands.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = c.out.Write(p)
	return len(p), nil
}

// maxScriptOutput bounds what a script and its commands say on the console,
// which is slow, and in the log, which is in memory.
const maxScriptOutput = 4 << 20

// bounded passes so many bytes on, and says how many there were besides.
type bounded struct {
	mu         sync.Mutex
	to         *console
	left, over int
}

// Write takes the output of commands.
func (b *bounded) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := min(len(p), b.left)
	if now > 0 {
		_, _ = b.to.Write(p[:now])
	}
	if b.left -= now; b.left == 0 && b.over == 0 && now < len(p) {
		b.to.printf("the script has said %d bytes: the rest is left out here and in the log", maxScriptOutput)
	}
	b.over += len(p) - now
	return len(p), nil
}

func (b *bounded) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over > 0 {
		b.to.printf("%d more bytes of the script's output were left out", b.over)
	}
}

// lines is a slog.Handler that writes to the console:
//
//	[  12.3s] network: eth0 is up address=10.0.3.20
type lines struct {
	console *console
	level   slog.Level
	prefix  string // "network: "
	attrs   string
}

// Enabled keeps debugging back unless VERBOSE=1.
func (h lines) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level }

// Handle writes one record.
func (h lines) Handle(_ context.Context, r slog.Record) error {
	text := h.prefix + r.Message + h.attrs
	r.Attrs(func(a slog.Attr) bool {
		text += attrText(a)
		return true
	})
	h.console.printf("%s", text)
	return nil
}

func attrText(a slog.Attr) string {
	value := a.Value.Resolve().String()
	if value == "" || strings.ContainsAny(value, " \t\n\"") {
		value = fmt.Sprintf("%q", value)
	}
	return " " + a.Key + "=" + value
}

// WithAttrs is part of slog.Handler.
func (h lines) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		h.attrs += attrText(a)
	}
	return h
}

// WithGroup is part of slog.Handler; the console has no groups.
func (h lines) WithGroup(string) slog.Handler { return h }
