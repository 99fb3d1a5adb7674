package server

import (
	"sync"
	"time"

	"edeploy/server/internal/refusal"
	"edeploy/server/wire"
)

// Progress is what a machine is doing now. It is kept in memory only.
type Progress struct {
	Step           string    `json:"step"`
	Status         string    `json:"status"`
	Message        string    `json:"message,omitempty"`
	Bytes          int64     `json:"bytes,omitempty"`
	TotalBytes     int64     `json:"total_bytes,omitempty"`
	Percent        float64   `json:"percent,omitempty"`          // of TotalBytes, 0 to 100
	BytesPerSecond float64   `json:"bytes_per_second,omitempty"` // of late
	Started        time.Time `json:"started"`                    // the step
	Updated        time.Time `json:"updated"`
}

// next is the progress after a report that came at a time.
func (p Progress) next(rep wire.Report, now time.Time) Progress {
	n := Progress{Step: string(rep.Step), Status: string(rep.Status), Message: refusal.Clip(rep.Message, 2000),
		Bytes: rep.Bytes, TotalBytes: rep.TotalBytes, Started: now, Updated: now}
	if rep.TotalBytes > 0 {
		n.Percent = min(100, 100*float64(rep.Bytes)/float64(rep.TotalBytes))
	}
	if p.Step == n.Step && rep.Status != wire.StatusStarted {
		n.Started = p.Started
		n.BytesPerSecond = p.rate(rep.Bytes, now)
	}
	return n
}

// rate smooths: half of it is the newest interval, half what was before.
func (p Progress) rate(bytes int64, now time.Time) float64 {
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
	now map[string]Progress
}

func newProgressTable() *progressTable { return &progressTable{now: map[string]Progress{}} }

func (t *progressTable) note(id string, rep wire.Report, now time.Time) Progress {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.now[id].next(rep, now)
	t.now[id] = p
	return p
}

func (t *progressTable) get(id string) (Progress, bool) {
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
