package state_test

import (
	"testing"

	"edeploy/server/internal/state"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	s, err := state.Parse("state", "# priorities\n[('hp', 4), ['vm', '*'],\n ('web', ' 12 '), ('off', 0), ('neg', -1),]\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []state.Pair{{"hp", false, 4}, {"vm", true, 0}, {"web", false, 12}, {"off", false, 0}, {"neg", false, -1}}
	if diff := cmp.Diff(want, s.Pairs()); diff != "" {
		t.Errorf("pairs (-want +got):\n%s", diff)
	}
	var available []bool
	for _, p := range s.Pairs() {
		available = append(available, p.Available())
	}
	if diff := cmp.Diff([]bool{true, true, true, false, false}, available); diff != "" {
		t.Errorf("available (-want +got):\n%s", diff)
	}
}

func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		"(('a', 1),)":          "state:1:1: want a list of pairs (profile, count)",
		"[\n 'a']":             "state:2:2: want a pair (profile, count), got 'a'",
		"[('a', 1, 2)]":        "state:1:2: want a pair (profile, count), got 3 values",
		"[(1, 1)]":             "state:1:3: want the name of a profile, got 1",
		"[('a', 'x')]":         "state:1:8: count of a is 'x': want a number or '*'",
		"[('a', 1.5)]":         "state:1:8: count of a is 1.5: want a number or '*'",
		"[('a', 1)\n('b', 2)]": `state:2:1: want a comma or "]", got "("`,
		"":                     "state:1:1: file is empty",
	} {
		if _, err := state.Parse("state", text); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

func TestChanges(t *testing.T) {
	for _, tc := range []struct {
		name, text, want string
		change           func(*state.State) *state.State
	}{
		{"decrement", "[('a',1),('b','*')]", "[('a', 0), ('b', '*')]\n", func(s *state.State) *state.State { return s.Decrement(0) }},
		{"decrement text", "[('a', ' 12 ')]", "[('a', 11)]\n", func(s *state.State) *state.State { return s.Decrement(0) }},
		{"unlimited stays as written", "[('a',1),\n('b','*')]", "[('a',1),\n('b','*')]", func(s *state.State) *state.State { return s.Decrement(1) }},
		{"other pairs keep their type", "[['a', 1], ['b', '2']]", "[('a', 0), ['b', '2']]\n", func(s *state.State) *state.State { return s.Decrement(0) }},
		{"give back to the first", "[('a', 0), ('a', 7)]", "[('a', 1), ('a', 7)]\n", func(s *state.State) *state.State { s, _ = s.GiveBack("a"); return s }},
		{"comments stay", "# top\n[('a', 2), # two\n ('b', '3'), # three\n]\n", "# top\n[('a', 2), # two\n ('b', 2), # three\n]\n", func(s *state.State) *state.State { return s.Decrement(1) }},
		{"long lists are one pair a line", "[('aaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 2), ('bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', '*'), ('c', 1)]",
			"[('aaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 1),\n ('bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', '*'),\n ('c', 1)]\n", func(s *state.State) *state.State { return s.Decrement(0) }},
	} {
		s, err := state.Parse("state", tc.text)
		if err != nil {
			t.Fatal(err)
		}
		if got := tc.change(s).Text(); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
	}
}

func TestGiveBackNothing(t *testing.T) {
	s, err := state.Parse("state", "[('a', '*')]")
	if err != nil {
		t.Fatal(err)
	}
	for _, profile := range []string{"a", "unknown"} {
		if again, changed := s.GiveBack(profile); changed || again != s {
			t.Errorf("GiveBack(%s) changed %v", profile, changed)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"[('hp', 4), ('vm', '*')]", "# c\n[['a', '12'], # d\n ('b', 9223372036854775807)]", "[('a', -9223372036854775808)]"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := state.Parse("state", text)
		if err != nil {
			return
		}
		for i, p := range s.Pairs() {
			if p.Available() && !p.Unlimited {
				if got := s.Decrement(i).Pairs()[i].Count; got != p.Count-1 {
					t.Errorf("count %d after taking one from %d", got, p.Count)
				}
			}
			s.GiveBack(p.Profile)
		}
	})
}
