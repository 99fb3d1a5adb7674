package queue_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"edeploy/server/internal/queue"
	"edeploy/server/internal/refusal"
	"edeploy/server/internal/store"
)

// sums is a queue whose document is a list of words: every snapshot is one.
type sums struct {
	*queue.Queue[*[]string]
	commits [][]string
	fail    []error // of the next commits
	most    int     // words of a commit; 0: there is no bound
	told    []string
}

func newSums(fail ...error) *sums {
	s := &sums{fail: fail}
	s.Queue = queue.New(queue.Documents[*[]string]{
		Lock: func(_ context.Context, keys []string) (func(), error) {
			if slices.Contains(keys, "held") {
				time.Sleep(2 * time.Minute)
				return nil, refusal.New(refusal.Busy, "another process holds it")
			}
			time.Sleep(time.Second) // what comes meanwhile goes together
			return func() {}, nil
		},
		Snapshot: func() *[]string { return new([]string) },
		Commit: func(words *[]string) error {
			if s.most > 0 && len(*words) > s.most {
				return fmt.Errorf("%d words: %w", len(*words), store.ErrTooLarge)
			}
			if slices.Contains(*words, "poison") {
				panic("a defect in what was decided")
			}
			if len(s.fail) > 0 {
				err := s.fail[0]
				s.fail = s.fail[1:]
				return err
			}
			s.commits = append(s.commits, *words)
			return nil
		},
		Committed: func(*[]string) {},
		Unwritten: func(err error) { s.told = append(s.told, err.Error()) },
	}, time.Minute, slog.New(slog.DiscardHandler))
	return s
}

// say is a decision that adds a word.
func say(word string) queue.Decision[*[]string] {
	return queue.Decision[*[]string]{Decide: func(words *[]string) error {
		*words = append(*words, word)
		return nil
	}}
}

// inOrder starts decisions one after the other and waits for all their answers.
func (s *sums) inOrder(all ...queue.Decision[*[]string]) []error {
	errs := make([]error, len(all))
	done := make(chan struct{})
	for i, d := range all {
		go func() {
			defer func() {
				if defect := recover(); defect != nil {
					errs[i] = errors.New(defect.(string))
				}
				done <- struct{}{}
			}()
			errs[i] = s.Do(context.Background(), d)
		}()
		synctest.Wait()
	}
	for range all {
		<-done
	}
	return errs
}

func TestGroups(t *testing.T) {
	locked, alone := say("locked"), say("alone")
	locked.Locks, alone.Alone = []string{"b", "a", "b"}, true
	same := say("same")
	same.Locks = []string{"a", "b"}
	tests := []struct {
		name string
		all  []queue.Decision[*[]string]
		want [][]string
	}{
		{"those that wait go together", []queue.Decision[*[]string]{say("1"), say("2"), say("3")}, [][]string{{"1"}, {"2", "3"}}},
		{"equal locks go together", []queue.Decision[*[]string]{say("1"), locked, say("2"), same}, [][]string{{"1"}, {"locked", "same"}, {"2"}}},
		{"none overtakes one that goes alone", []queue.Decision[*[]string]{say("1"), say("2"), alone, say("3")}, [][]string{{"1"}, {"2"}, {"alone"}, {"3"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSums()
				defer s.Close()
				for _, err := range s.inOrder(tt.all...) {
					if err != nil {
						t.Error(err)
					}
				}
				if !slices.EqualFunc(s.commits, tt.want, slices.Equal) {
					t.Errorf("commits %v, want %v", s.commits, tt.want)
				}
			})
		})
	}
}

// TestConflict: decisions are made again, from a new snapshot, and not for ever.
func TestConflict(t *testing.T) {
	for _, tt := range []struct {
		conflicts int
		commits   int
		kind      error
	}{{1, 1, nil}, {4, 1, nil}, {5, 0, refusal.Broken}} {
		synctest.Test(t, func(t *testing.T) {
			s := newSums(slices.Repeat([]error{store.ErrConflict}, tt.conflicts)...)
			defer s.Close()
			err := s.inOrder(say("1"))[0]
			if !errors.Is(err, tt.kind) || len(s.commits) != tt.commits || (len(s.told) > 0) != (tt.kind != nil) {
				t.Errorf("%d conflicts: error %v, commits %v, told %v", tt.conflicts, err, s.commits, s.told)
			}
		})
	}
}

// TestTooLarge: what a store cannot take at once goes by halves, and everybody
// gets the answer that is his; one that alone is too large is told so.
func TestTooLarge(t *testing.T) {
	refused := queue.Decision[*[]string]{Decide: func(*[]string) error { return refusal.New(refusal.Conflict, "not so") }}
	big := queue.Decision[*[]string]{Decide: func(words *[]string) error {
		*words = append(*words, "a", "b", "c")
		return nil
	}}
	for _, tt := range []struct {
		name    string
		all     []queue.Decision[*[]string] // the first is made alone, while the others come
		commits [][]string
		kinds   []error
	}{
		{"halves", []queue.Decision[*[]string]{say("0"), say("1"), say("2"), say("3"), say("4")},
			[][]string{{"0"}, {"1", "2"}, {"3", "4"}}, make([]error, 5)},
		{"one refused, one too large", []queue.Decision[*[]string]{say("0"), say("1"), refused, big, say("4")},
			[][]string{{"0"}, {"1"}, {"4"}}, []error{nil, nil, refusal.Conflict, refusal.TooLarge, nil}},
		{"one too large", []queue.Decision[*[]string]{big}, nil, []error{refusal.TooLarge}},
		{"a defect in one half", []queue.Decision[*[]string]{say("0"), say("1"), say("2"), say("poison"), say("4")},
			[][]string{{"0"}, {"1", "2"}, {"4"}}, []error{nil, nil, nil, errDefect, nil}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSums()
				s.most = 2
				defer s.Close()
				for i, err := range s.inOrder(tt.all...) {
					if want := tt.kinds[i]; want == errDefect && (err == nil || err.Error() != want.Error()) || want != errDefect && !errors.Is(err, want) {
						t.Errorf("decision %d: %v, want %v", i, err, want)
					}
				}
				if !slices.EqualFunc(s.commits, tt.commits, slices.Equal) {
					t.Errorf("commits %v, want %v", s.commits, tt.commits)
				}
			})
		})
	}
}

var errDefect = errors.New("a defect in what was decided")

// TestDefects: a panic hits the decision that it is in and no other.
func TestDefects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSums()
		defer s.Close()
		defect := queue.Decision[*[]string]{Decide: func(*[]string) error { panic("a defect") }}
		errs := s.inOrder(say("1"), say("2"), defect, say("poison"), say("3"))
		for i, want := range []string{"", "", "a defect", "a defect in what was decided", ""} {
			if got := errs[i]; (got != nil) != (want != "") || got != nil && got.Error() != want {
				t.Errorf("decision %d: %v, want %q", i, got, want)
			}
		}
		if want := [][]string{{"1"}, {"2"}, {}, {"3"}}; !slices.EqualFunc(s.commits, want, slices.Equal) {
			t.Errorf("commits %v, want %v", s.commits, want)
		}
	})
}

// TestBusy: nobody waits longer than the bound, and not for a queue that closes.
func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSums()
		held := say("1")
		held.Locks = []string{"held"}
		start := time.Now()
		for i, err := range s.inOrder(held, say("2")) {
			if !errors.Is(err, refusal.Busy) {
				t.Errorf("decision %d: %v, want busy", i, err)
			}
		}
		if took := time.Since(start); took > 2*time.Minute {
			t.Errorf("it took %s", took)
		}
		s.Close()
		if err := s.Do(context.Background(), say("3")); !errors.Is(err, refusal.Busy) {
			t.Errorf("after Close: %v", err)
		}
	})
}
