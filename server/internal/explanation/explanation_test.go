package explanation

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"edeploy/server/internal/allocation"
	"edeploy/server/internal/history"
	"edeploy/server/internal/machine"
	"edeploy/server/internal/problems"
)

// TestWait: of a machine only the last one is written, as soon as no upload is
// in work; what finds no room is written at once, and an older one of that
// machine never.
func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, err := history.Open(t.TempDir(), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		e := New(dir, problems.NewList(slog.New(slog.DiscardHandler), time.Now), slog.New(slog.DiscardHandler))
		defer e.Close()
		over := e.Upload()
		const all = maxWaitingBytes
		for _, step := range []struct {
			section, id string // the section tells explanations of a machine apart
			bytes       int
			written     bool
		}{
			{"first", "a", all / 2, false},
			{"second", "a", all / 2, false},
			{"first", "b", all / 2, false},
			{"large", "c", 1, true},
			{"large", "b", all, true}, // not the older one
			{"again", "b", all / 2, false},
		} {
			e.Add(allocation.Outcome{Record: machine.Record{ID: step.id, Section: step.section}}, step.bytes, time.Now())
			if _, waits := e.waiting[step.id]; waits == step.written {
				t.Errorf("%v: waits %v", step, waits)
			}
			if text, err := dir.Explanation(step.id); err != nil || step.written != (text != nil) && step.section != "again" {
				t.Errorf("%v: written %q (%v)", step, text, err)
			}
		}
		over()
		synctest.Wait()
		if len(e.waiting) > 0 || e.bytes > 0 {
			t.Errorf("when no upload is in work, %d wait, of %d bytes", len(e.waiting), e.bytes)
		}
		for id, section := range map[string]string{"a": "second", "b": "again", "c": "large"} {
			if is, err := e.Of(id); err != nil || is.Section != section {
				t.Errorf("%s is written as %q (%v), want %q", id, is.Section, err, section)
			}
		}
	})
}

// TestLate: while uploads go on, an explanation is written all the same.
func TestLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, err := history.Open(t.TempDir(), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		e := New(dir, problems.NewList(slog.New(slog.DiscardHandler), time.Now), slog.New(slog.DiscardHandler))
		defer e.Close()
		defer e.Upload()()
		e.Add(allocation.Outcome{Record: machine.Record{ID: "a"}}, 1, time.Now())
		time.Sleep(maxDelay)
		synctest.Wait()
		if text, err := dir.Explanation("a"); err != nil || text == nil {
			t.Errorf("after %s: %q, %v", maxDelay, text, err)
		}
		if err := e.Forget("a"); err != nil {
			t.Error(err)
		}
		if _, err := e.Of("a"); err == nil {
			t.Error("it is forgotten, and explained")
		}
	})
}
