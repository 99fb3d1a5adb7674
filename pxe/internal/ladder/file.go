package ladder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"edeploy/pxe/internal/firmware"
	"edeploy/server/wire"

	"github.com/google/renameio/v2"
)

// header is the first line of the file.
const header = "# Loaders of machines: ADDRESS FIRMWARE WORKS FAILED SLIPS; - is none. Written by the running server.\n"

// maxFile is more than all machines take, of two kinds of firmware each.
const maxFile = 32 << 20

const (
	none     = "-"
	maxRungs = 8 // of one ladder
	tick     = 2 * time.Second
)

// Open makes a ladder and reads its file. The error says that the file could
// not be understood: then nothing is remembered, and machines find their loaders
// again.
func Open(conf Config) (*Ladder, error) {
	if conf.Now == nil {
		conf.Now = time.Now
	}
	if conf.Known == nil {
		conf.Known = func(string) bool { return false }
	}
	if conf.Model == nil {
		conf.Model = func(string, string) string { return "" }
	}
	l := &Ladder{conf: conf, known: map[Firmware]*entry{}, strangers: map[Firmware]*entry{}, open: map[string][]Firmware{}}
	if conf.File == "" {
		return l, nil
	}
	return l, l.read()
}

func (l *Ladder) read() error {
	f, err := os.Open(l.conf.File)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return err
	}
	all, err := parse(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", l.conf.File, err)
	}
	for f, h := range all {
		l.put(f, &entry{History: h})
	}
	l.displace()
	l.dirty = false
	return nil
}

// parse reads a file, all of it or nothing.
func parse(text string) (map[Firmware]History, error) {
	if len(text) > maxFile {
		return nil, fmt.Errorf("is larger than %d bytes", maxFile)
	}
	all, n := map[Firmware]History{}, 0
	for raw := range strings.Lines(text) {
		n++
		if strings.HasPrefix(raw, "#") {
			continue
		}
		f, h, err := parseLine(strings.Fields(raw))
		if err == nil && !strings.HasSuffix(raw, "\n") {
			err = errors.New("the line does not end")
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		all[f] = h
	}
	return all, nil
}

func parseLine(words []string) (f Firmware, h History, err error) {
	if len(words) != 5 {
		return f, h, fmt.Errorf("%d words, want 5", len(words))
	}
	f = Firmware{wire.NormalMAC(words[0]), firmware.Kind(words[1])}
	if f.MAC == "" {
		return f, h, fmt.Errorf("%.40q is not an Ethernet address", words[0])
	}
	if words[2] != none {
		h.Works = firmware.Loader(words[2])
	}
	if words[3] != none {
		for _, name := range strings.Split(words[3], ",") {
			h.Failed = append(h.Failed, firmware.Loader(name))
		}
	}
	if len(h.Failed) > maxRungs {
		return f, h, fmt.Errorf("%d loaders, want at most %d", len(h.Failed), maxRungs)
	}
	h.Slips, err = strconv.Atoi(words[4])
	if err != nil || h.Slips < 0 || h.Slips > maxSlips {
		return f, h, fmt.Errorf("%.40q is no number up to %d", words[4], maxSlips)
	}
	return f, h, nil
}

// text is the file.
func (l *Ladder) text() []byte {
	all := maps.Clone(l.known)
	maps.Copy(all, l.strangers)
	text := []byte(header)
	for _, f := range slices.SortedFunc(maps.Keys(all), func(x, y Firmware) int {
		return strings.Compare(x.MAC+string(x.Kind), y.MAC+string(y.Kind))
	}) {
		h := all[f].History
		if h.Works == "" && len(h.Failed) == 0 {
			continue
		}
		works, failed := string(h.Works), ""
		for _, name := range h.Failed {
			failed += "," + string(name)
		}
		if works == "" {
			works = none
		}
		if failed == "" {
			failed = "," + none
		}
		text = fmt.Appendf(text, "%s %s %s %s %d\n", f.MAC, f.Kind, works, failed[1:], h.Slips)
	}
	return text
}

// Save writes what has changed, whole, by rename.
func (l *Ladder) Save() error {
	l.mu.Lock()
	dirty := l.dirty && l.conf.File != ""
	var text []byte
	if dirty {
		text, l.dirty = l.text(), false
	}
	l.mu.Unlock()
	if !dirty {
		return nil
	}
	err := renameio.WriteFile(l.conf.File, text, 0o644, renameio.WithTempDir(filepath.Dir(l.conf.File)))
	if err != nil {
		l.mu.Lock()
		l.dirty = true
		l.mu.Unlock()
		return fmt.Errorf("save loaders of machines: %w", err)
	}
	return nil
}

// Run ends attempts that take too long, and saves, until ctx ends.
func (l *Ladder) Run(ctx context.Context) {
	failing := false
	save := func() {
		err := l.Save()
		if err != nil && !failing {
			l.conf.Log.Error("loaders", "err", err)
		}
		failing = err != nil
	}
	defer save()
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(tick):
		}
		l.expire()
		save()
	}
}
