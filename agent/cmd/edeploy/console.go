package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"edeploy/agent/internal/installed"
	"edeploy/agent/internal/transaction"
	"edeploy/agent/internal/upgrade"
	"edeploy/server/wire"
)

// console tells how an upgrade or a rollback goes. It is upgrade.Console.
type console struct {
	program
	out     io.Writer
	machine installed.Machine
	steps   *steps
	file    *os.File // the log of an upgrade, when it has begun
}

// Planned begins the log, and tells what will change and be lost.
func (c *console) Planned(u *upgrade.Preparation) (io.Writer, error) {
	var err error
	if c.file, err = openLog(c.machine.Path(wire.LogDir), u.Conf.Image.Version, u.To.Version); err != nil {
		return nil, err
	}
	c.out = &both{c.out, c.file}
	if s := u.LossSentence(); s != "" {
		fmt.Fprintln(c.out, s)
	}
	for _, m := range u.Merged {
		fmt.Fprintln(c.out, m)
	}
	fmt.Fprintln(c.out, totals(u.Conf.Image, u.To.Version, u.Plan))
	return c.out, nil
}

// Step tells of a transaction's steps.
func (c *console) Step(step transaction.Step, done, total int64) {
	if c.steps == nil {
		c.steps = &steps{out: c.out, bar: bar{out: c.stderr, on: c.terminal, now: time.Now}}
	}
	c.steps.show(step, done, total)
}

// Changed ends the steps. What scripts have started before all was undone may
// still run.
func (c *console) Changed(err error) {
	if c.steps != nil {
		c.steps.end(err == nil)
	}
	if c.file != nil && errors.Is(err, transaction.ErrUndone) {
		writeLeftovers(c.out, c.leftovers(context.Background(), c.machine))
	}
}

// log writes an error into the log, when there is one, and answers it.
func (c *console) log(err error) error {
	if c.file != nil {
		fmt.Fprintln(c.file, err)
	}
	return err
}

func (c *console) close() {
	if c.file != nil {
		c.file.Close()
	}
}

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

// seconds is a time as people compare it.
func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

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

func clearLine(terminal bool) string {
	if terminal {
		return "\r\x1b[K"
	}
	return ""
}

// warnings is a logger that tells people of warnings, one line each.
func warnings(out io.Writer, terminal bool) *slog.Logger {
	return slog.New(&lines{out: out, start: clearLine(terminal) + "edeploy: "})
}

type lines struct {
	out   io.Writer
	start string // of each
	attrs []slog.Attr
}

func (l *lines) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

func (l *lines) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(l.start + r.Message)
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
	return &lines{l.out, l.start, append(l.attrs[:len(l.attrs):len(l.attrs)], attrs...)}
}

func (l *lines) WithGroup(string) slog.Handler { return l }
