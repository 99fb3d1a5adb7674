package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"
)

// patience is how long a command works before it shows a bar.
const patience = 2 * time.Second

// bar shows progress on one line of a terminal.
type bar struct {
	out   io.Writer
	title string
	on    bool
	now   func() time.Time
	start time.Time
	shown bool
	unit  unit // zero: megabytes
}

// show draws the bar; fstree.Options.Progress calls it.
func (b *bar) show(done, total int64) {
	elapsed := b.now().Sub(b.start)
	if !b.on || total <= 0 || elapsed < patience {
		return
	}
	b.shown = true
	const width = 30
	full := int(width * done / total)
	left := ""
	if done >= total/100 && done > 0 { // before that it is a guess
		left = fmt.Sprintf(", %v left", time.Duration(float64(elapsed)*float64(total-done)/float64(done)).Round(time.Second))
	}
	unit := cmp.Or(b.unit, megabytes)
	scale := int64(unit.factor)
	fmt.Fprintf(b.out, "\r%s [%s%s] %3d%%  %d of %d %s%s \x1b[K", b.title, strings.Repeat("#", full), strings.Repeat(".", width-full),
		100*done/total, done/scale, total/scale, unit.name, left)
}

func (b *bar) clear() {
	if b.shown {
		fmt.Fprint(b.out, "\r\x1b[K")
	}
}
