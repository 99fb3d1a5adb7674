package install

import (
	"fmt"
	"sync"
	"time"

	"edeploy/server/wire"
)

// The console gets a line of progress every 5 s or every tenth of the way,
// the server a report every second.
const (
	consoleEvery = 5 * time.Second
	consoleParts = 10
	reportEvery  = time.Second
)

// meter turns byte counts into lines and reports.
type meter struct {
	total int64

	mu         sync.Mutex
	reported   time.Time
	shown      time.Time
	shownBytes int64
}

// at decides what a byte count is worth saying: a line for the console, or
// "", and whether to report it.
func (m *meter) at(now time.Time, bytes int64) (line string, report bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	bytes = min(bytes, m.total)
	if m.shown.IsZero() { // the first call starts the clock
		m.shown, m.reported, m.shownBytes = now, now, bytes
		return "", false
	}
	if now.Sub(m.reported) >= reportEvery {
		m.reported, report = now, true
	}
	since := now.Sub(m.shown)
	part := max(m.total/consoleParts, 1)
	if since >= consoleEvery || since >= reportEvery && bytes/part > m.shownBytes/part {
		line = fmt.Sprintf("%d%% %d of %d MB, %.0f MB/s", percent(bytes, m.total), bytes/1e6, m.total/1e6,
			float64(bytes-m.shownBytes)/1e6/since.Seconds())
		m.shown, m.shownBytes = now, bytes
	}
	return line, report
}

func percent(bytes, total int64) int64 {
	if total <= 0 {
		return 100
	}
	return bytes * 100 / total
}

func (in *installation) progress(total int64) func(bytes int64) {
	name, m := in.step, &meter{total: total}
	return func(bytes int64) {
		line, report := m.at(in.env.Now(), bytes)
		if line != "" {
			in.console.printf("%s: %s", name, line)
		}
		if report {
			in.report(wire.Report{Step: name, Status: wire.StatusProgress, Bytes: min(bytes, total), TotalBytes: total})
		}
	}
}
