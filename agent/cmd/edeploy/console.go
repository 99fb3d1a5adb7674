package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"edeploy/agent/internal/transaction"
)

// openLog opens the log of an upgrade in a directory, at its end: an upgrade may
// be tried several times.
func openLog(dir, from, to string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("upgrade-%s-%s.log", from, to)), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err == nil {
		fmt.Fprintf(log, "\n%s\n", time.Now().Format(time.RFC3339))
	}
	return log, err
}

// both writes to two places; one that fails (a lost session, a full disk) does
// not keep the text from the other, nor end an upgrade.
type both struct{ a, b io.Writer }

func (w *both) Write(p []byte) (int, error) {
	_, _ = w.a.Write(p)
	_, _ = w.b.Write(p)
	return len(p), nil
}

// steps tells of a transaction's steps: a bar while one takes long, a line
// when it is over.
type steps struct {
	out  io.Writer
	bar  bar
	step transaction.Step // "": none
	size int64
	done bool
}

// show is transaction.Machine.Progress.
func (s *steps) show(step transaction.Step, done, total int64) {
	if step != s.step {
		s.end(true)
		s.step, s.bar.start, s.bar.title, s.bar.unit = step, s.bar.now(), string(step), units[step]
	}
	s.size, s.done = total, done == total
	if units[step].name != "" {
		s.bar.show(done, total)
	}
}

// end tells of the step that is over; good says whether it may be told if its
// last word was not heard.
func (s *steps) end(good bool) {
	s.bar.clear()
	if s.step == "" || !good && !s.done {
		return
	}
	took := seconds(s.bar.now().Sub(s.bar.start))
	if u := units[s.step]; u.name != "" {
		fmt.Fprintf(s.out, "%s: %s, %s\n", s.step, u.say(s.size), took)
	} else {
		fmt.Fprintf(s.out, "%s: %s\n", s.step, took)
	}
	s.step = ""
}

// unit is what progress counts.
type unit struct {
	name   string
	factor float64
}

var (
	megabytes  = unit{"MB", 1e6}
	operations = unit{"operations", 1}
	units      = map[transaction.Step]unit{transaction.StepStage: megabytes, transaction.StepApply: operations, transaction.StepUndo: operations}
)

func (u unit) say(n int64) string {
	if u.factor == 1 {
		return fmt.Sprintf("%d %s", n, u.name)
	}
	return fmt.Sprintf("%.1f %s", float64(n)/u.factor, u.name)
}

// clearLine wipes a bar away.
func clearLine(terminal bool) string {
	if terminal {
		return "\r\x1b[K"
	}
	return ""
}

// warnings is a logger that tells people of warnings, one line each.
func warnings(out io.Writer) *slog.Logger { return slog.New(&lines{out: out}) }

// lines is a slog.Handler.
type lines struct {
	out   io.Writer
	attrs []slog.Attr
}

func (l *lines) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

func (l *lines) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString("edeploy: " + r.Message)
	tell := func(a slog.Attr) bool {
		fmt.Fprintf(&b, ", %s: %v", a.Key, a.Value)
		return true
	}
	for _, a := range l.attrs {
		tell(a)
	}
	r.Attrs(tell)
	_, err := io.WriteString(l.out, b.String()+"\n")
	return err
}

func (l *lines) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &lines{l.out, append(l.attrs[:len(l.attrs):len(l.attrs)], attrs...)}
}

func (l *lines) WithGroup(string) slog.Handler { return l }
