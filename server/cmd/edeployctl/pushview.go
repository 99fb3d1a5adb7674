package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"edeploy/server/wire"

	"golang.org/x/sys/unix"
)

// pushView shows how far a push is: JSON lines, a bar on a terminal, or a line
// for every tenth.
type pushView struct {
	out, err io.Writer
	json     bool
	terminal bool
	ref      wire.ImageRef

	last   string // what was shown last, so that nothing is shown twice
	noted  string
	redraw time.Time
	open   bool // the cursor is at the end of a bar
}

func newPushView(out, err io.Writer, json bool, ref wire.ImageRef) *pushView {
	return &pushView{out: out, err: err, json: json, terminal: isTerminal(err), ref: ref}
}

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// progress shows a step; total 0 means that there is nothing to count.
func (v *pushView) progress(step string, done, total int64) {
	v.noted = ""
	if v.terminal && !v.json {
		v.bar(step, done, total)
		return
	}
	tenth := int64(0)
	if total > 0 {
		tenth = done * 10 / total
	}
	key := fmt.Sprint(step, tenth)
	switch {
	case key == v.last:
	case v.json:
		_ = v.line(map[string]any{"step": step, "done": done, "total": total})
	default:
		fmt.Fprintf(v.err, "%s: %s %s\n", v.ref, step, percent(done, total))
	}
	v.last = key
}

func (v *pushView) line(words map[string]any) error { return json.NewEncoder(v.out).Encode(words) }

func percent(done, total int64) string {
	if total <= 0 {
		return ""
	}
	return fmt.Sprintf("%d%% of %.1f MB", done*100/total, float64(total)/1e6)
}

// bar redraws at most ten times a second, and always at the end of a step.
func (v *pushView) bar(step string, done, total int64) {
	if step != v.last && v.open {
		fmt.Fprintln(v.err)
	}
	if step == v.last && done < total && time.Since(v.redraw) < 100*time.Millisecond {
		return
	}
	v.last, v.redraw, v.open = step, time.Now(), true
	const width = 30
	filled := 0
	if total > 0 {
		filled = int(done * width / total)
	}
	fmt.Fprintf(v.err, "\r\x1b[K%-16s [%s%s] %s", step, strings.Repeat("#", filled), strings.Repeat(".", width-filled), percent(done, total))
}

// note tells once why nothing goes on at the moment.
func (v *pushView) note(what string, err error) {
	if v.noted == err.Error() {
		return
	}
	v.noted = err.Error()
	if v.json {
		_ = v.line(map[string]any{"step": "waiting", "error": err.Error()})
		return
	}
	v.close()
	fmt.Fprintf(v.err, "%s: %s: %v\n", v.ref, what, err)
}

func (v *pushView) close() {
	if v.open {
		fmt.Fprintln(v.err)
		v.open = false
	}
}

func (v *pushView) published(image pushedImage) error {
	v.close()
	if v.json {
		return v.line(map[string]any{"step": "done", "image": image})
	}
	_, err := fmt.Fprintf(v.out, "%s: published, %s, %.1f MB\n", image.ImageRef, plural(image.Entries, "entry"), float64(image.Bytes)/1e6)
	return err
}
