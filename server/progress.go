package server

import (
	"sync"
	"time"

	"edeploy/server/api"
	"edeploy/server/internal/refusal"
	"edeploy/server/wire"
)

// nextProgress is the progress after a report that came at a time.
func nextProgress(p api.Progress, rep wire.Report, now time.Time) api.Progress {
	n := api.Progress{Step: string(rep.Step), Status: string(rep.Status), Message: refusal.Clip(rep.Message, 2000),
		Bytes: rep.Bytes, TotalBytes: rep.TotalBytes, Started: now, Updated: now}
	if rep.TotalBytes > 0 {
		n.Percent = min(100, 100*float64(rep.Bytes)/float64(rep.TotalBytes))
	}
	if p.Step == n.Step && rep.Status != wire.StatusStarted {
		n.Started = p.Started
		n.BytesPerSecond = rate(p, rep.Bytes, now)
	}
	return n
}

// rate smooths: half of it is the newest interval, half what was before.
func rate(p api.Progress, bytes int64, now time.Time) float64 {
	seconds := now.Sub(p.Updated).Seconds()
	if seconds <= 0 || bytes < p.Bytes {
		return p.BytesPerSecond
	}
	latest := float64(bytes-p.Bytes) / seconds
	if p.BytesPerSecond == 0 {
		return latest
	}
	return (latest + p.BytesPerSecond) / 2
}

// progressTable is the progress of all machines.
type progressTable struct {
	mu  sync.Mutex
	now map[string]api.Progress
}

func newProgressTable() *progressTable { return &progressTable{now: map[string]api.Progress{}} }

func (t *progressTable) note(id string, rep wire.Report, now time.Time) api.Progress {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := nextProgress(t.now[id], rep, now)
	t.now[id] = p
	return p
}

func (t *progressTable) get(id string) (api.Progress, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, ok := t.now[id]
	return p, ok
}

func (t *progressTable) remove(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.now, id)
}
