package activity_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"edeploy/server/api"
	"edeploy/server/internal/activity"
	"edeploy/server/internal/history"
	"edeploy/server/internal/machine"
	"edeploy/server/internal/problems"
	"edeploy/server/wire"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func record(n int) machine.Record {
	return machine.Record{ID: fmt.Sprintf("02-00-00-00-00-%02x", n), Identity: wire.Identity{MACs: []string{fmt.Sprintf("02:00:00:00:00:%02x", n)}},
		State: machine.Installing, Boot: machine.Auto, Since: noon.Add(-time.Hour), Name: fmt.Sprint("node", n)}
}

func start(t *testing.T) *activity.Activity {
	t.Helper()
	dir, err := history.Open(t.TempDir(), 32<<10)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	index := machine.NewIndex(record(1), record(2))
	a := activity.New(dir, func() *machine.Index { return index }, problems.NewList(log, time.Now), log)
	stop := a.Start()
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
		dir.Close()
	})
	return a
}

func wiping(r *machine.Record) {
	r.State, r.Boot = machine.Wiping, machine.Wipe
}

func wiped(r *machine.Record) {
	r.State, r.Boot, r.Wipe = machine.Wiped, machine.Auto, &api.Wipe{Ended: noon, Disks: []wire.WipedDisk{{Name: "sda"}, {Name: "nvme0n1"}}}
}

// TestWords: what lists say of a machine follows from its record, from its last
// report, and from what it was last told to boot, whichever is newest.
func TestWords(t *testing.T) {
	differs := &api.Differing{Bill: "r7", Differences: make([]api.Difference, 2)}
	passed := *differs
	passed.Anyway = true
	for _, tt := range []struct {
		name   string
		change func(*machine.Record)
		said   wire.Report     // at noon; Step "": nothing
		boots  wire.BootAction // a minute after noon
		after  time.Duration   // that somebody looks
		want   string
	}{
		{name: "never heard of", change: func(r *machine.Record) { r.State = machine.Unknown }, want: "seen, never installed"},
		{name: "expected", change: func(r *machine.Record) { r.State, r.Expected = machine.Unknown, &api.Expected{Rack: "R1"} }, want: "not come yet"},
		{name: "expected, and come", change: func(r *machine.Record) { r.State, r.Expected = machine.Unknown, &api.Expected{Came: noon} }, want: "seen, never installed"},
		{name: "held", change: func(r *machine.Record) { r.State, r.Differs = machine.Failed, differs }, want: "HELD: its hardware differs from r7.bill in 2 properties"},
		{name: "let pass", change: func(r *machine.Record) { r.State, r.Differs = machine.Unknown, &passed },
			want: "to be installed at its next boot, though its hardware differs from r7.bill in 2 properties"},
		{name: "failed", change: func(r *machine.Record) { r.State, r.LastError = machine.Failed, "no disk\nat all" }, want: "FAILED no disk"},
		{name: "installed, on its way to the rescue shell", change: func(r *machine.Record) { r.State, r.Boot = machine.Installed, machine.Rescue }, want: "installed; rescue shell at its next boot"},
		{name: "a transfer", said: wire.Report{Step: wire.StepTransfer, Status: wire.StatusProgress, Bytes: 25, TotalBytes: 100}, want: "installing, transfer 25 %"},
		{name: "more than all", said: wire.Report{Step: wire.StepTransfer, Status: wire.StatusProgress, Bytes: 250, TotalBytes: 100}, want: "installing, transfer 100 %"},
		{name: "a step is over", said: wire.Report{Step: wire.StepDetect, Status: wire.StatusDone}, want: "installing, detect done"},
		{name: "silent", said: wire.Report{Step: wire.StepTransfer, Status: wire.StatusStarted}, after: 20 * time.Minute, want: "installing, transfer, silent for 20 min"},
		{name: "boots again after its report", said: wire.Report{Step: wire.StepTransfer, Status: wire.StatusStarted}, boots: wire.BootInstall, after: 2 * time.Minute, want: "booting the installer"},
		{name: "boots, and nothing more", boots: wire.BootInstall, after: 9 * time.Minute, want: "booting the installer, silent for 8 min"},
		{name: "on hold", boots: wire.BootHold, after: 90 * time.Second, want: "on hold, waiting"},
		{name: "on hold and off", boots: wire.BootHold, after: 5 * time.Minute, want: "on hold, waiting, silent for 4 min"},
		{name: "to be wiped", change: func(r *machine.Record) { r.State, r.Boot = machine.Installed, machine.Wipe }, want: "installed; its disks are erased at its next boot"},
		{name: "boots to be wiped", change: func(r *machine.Record) { r.State, r.Boot = machine.Installed, machine.Wipe }, boots: wire.BootWipe, after: 2 * time.Minute, want: "booting, to erase its disks"},
		{name: "wiping", change: wiping, said: wire.Report{Step: wire.StepWipe, Status: wire.StatusProgress, Bytes: 43, TotalBytes: 100}, want: "wiping 43 %"},
		{name: "wiping, and silent", change: wiping, said: wire.Report{Step: wire.StepWipe, Status: wire.StatusStarted}, after: 20 * time.Minute, want: "wiping, silent for 20 min"},
		{name: "wiping, after a power cut", change: wiping, said: wire.Report{Step: wire.StepNetwork, Status: wire.StatusStarted}, want: "wiping, network"},
		{name: "wiped", change: wiped, want: "wiped 2026-01-02: sda nvme0n1"},
		{name: "wiped, and waiting", change: wiped, boots: wire.BootHold, after: time.Minute, want: "wiped 2026-01-02: sda nvme0n1; on hold, waiting"},
		{name: "not wiped", change: func(r *machine.Record) {
			r.State, r.LastError = machine.WipeFailed, "1 of 2 disks are not erased: sda: broken"
		}, boots: wire.BootHold, after: time.Minute,
			want: "WIPE FAILED: 1 of 2 disks are not erased: sda: broken; on hold, waiting"},
		{name: "its own disk, long ago", boots: wire.BootLocal, after: time.Hour, change: func(r *machine.Record) { r.State = machine.Installed }, want: "installed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, r := start(t), record(1)
			if tt.change != nil {
				tt.change(&r)
			}
			if tt.said.Step != "" {
				if err := a.Report(t.Context(), r, tt.said, noon); err != nil {
					t.Fatal(err)
				}
			}
			if tt.boots != "" {
				a.Booted(r.ID, tt.boots, noon.Add(time.Minute))
			}
			if got, _ := a.Of(r, noon.Add(tt.after)); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			a.Forget(r.ID)
			if _, p := a.Of(r, noon); p != nil {
				t.Errorf("not forgotten: %+v", p)
			}
		})
	}
}

// TestRate: the speed is smoothed; a step that begins again, or goes back,
// makes no nonsense of it.
func TestRate(t *testing.T) {
	a, r := start(t), record(1)
	for i, tt := range []struct {
		status wire.Status
		at     int // seconds after noon
		bytes  int64
		rate   float64
		began  int // seconds after noon
	}{
		{wire.StatusStarted, 0, 0, 0, 0},
		{wire.StatusProgress, 10, 1000, 100, 0},
		{wire.StatusProgress, 20, 4000, 200, 0}, // half of 300, half of 100
		{wire.StatusProgress, 20, 9000, 200, 0}, // in no time
		{wire.StatusProgress, 30, 10, 200, 0},   // backwards
		{wire.StatusStarted, 40, 0, 0, 40},
	} {
		at := noon.Add(time.Duration(tt.at) * time.Second)
		if err := a.Report(t.Context(), r, wire.Report{Step: wire.StepTransfer, Status: tt.status, Bytes: tt.bytes}, at); err != nil {
			t.Fatal(err)
		}
		if _, p := a.Of(r, at); p == nil || p.BytesPerSecond != tt.rate || !p.Started.Equal(noon.Add(time.Duration(tt.began)*time.Second)) {
			t.Errorf("report %d: %+v, want %v B/s since %d s", i, p, tt.rate, tt.began)
		}
	}
}

// TestHistory: what Record and Report have answered is in the history; how far a
// step is, is not.
func TestHistory(t *testing.T) {
	a := start(t)
	var all sync.WaitGroup
	const each = 20
	for n := 1; n <= 2; n++ {
		r := record(n)
		all.Go(func() {
			for i := range each {
				a.Record(t.Context(), r, []api.HistoryLine{{Time: noon, Step: "match", Status: "done", Message: fmt.Sprint(i)}})
				if err := a.Report(t.Context(), r, wire.Report{Step: wire.StepTransfer, Status: wire.StatusProgress, Bytes: int64(i)}, noon); err != nil {
					t.Error(err)
				}
				lines, err := a.History.Tail(r.ID, 2*each)
				if err != nil || len(lines) != i+1 || lines[i].Message != fmt.Sprint(i) {
					t.Errorf("after %d: %v %v", i, lines, err)
				}
			}
		})
	}
	all.Wait()
}

// TestEvents: every reader gets all events in one order, those before it came
// included, with what is known of the machine.
func TestEvents(t *testing.T) {
	a := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const many = 50
	var tellers sync.WaitGroup
	for range 2 {
		tellers.Go(func() {
			for range many / 2 {
				a.Tell(record(1), api.Event{MAC: "02:00:00:00:00:01", Step: "boot", Status: "note"})
			}
		})
	}
	a.Tell(machine.Record{}, api.Event{Name: "dhcp", Step: "boot", Status: "note"})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			next, named := uint64(1), 0
			for number, e := range a.Events(ctx, 0) {
				if number != next {
					t.Errorf("event %d comes after %d", number, next-1)
				}
				if e.Machine == record(1).ID && e.Name == "node1" {
					named++
				}
				if next++; next > many+1 {
					break
				}
			}
			if named != many {
				t.Errorf("%d events of the machine, want %d", named, many)
			}
		})
	}
	tellers.Wait()
	readers.Wait()
}
