package transaction_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"edeploy/agent/internal/transaction"
	"edeploy/images/manifest"
	"edeploy/integration/needs"
)

// randomCases is how many pairs of trees are tried; TRANSACTION_CASES=n says it.
func randomCases() int {
	if n, err := strconv.Atoi(os.Getenv("TRANSACTION_CASES")); err == nil && n > 0 {
		return n
	}
	return 200
}

var (
	randomNames = []string{"a", "b", "c", "lib", "etc", "x y", "n\n", "\xff\xfe"}
	fileOptions = []string{"", "", "", ";mode=4755", ";mode=600", ";uid=7", ";cap", ";acl", ";time=3", ";user=v;uid=3;mode=6711", ";sparse"}
	dirOptions  = []string{"", "", ";mode=1777", ";mode=700;uid=5", ";dacl", ";time=8"}
)

// grow makes the words of a random tree, path to the rest of the word.
func grow(r *rand.Rand, words map[string]string, dir string, depth int) {
	for range 1 + r.IntN(4) {
		p := path.Join(dir, randomNames[r.IntN(len(randomNames))])
		if _, ok := words[p]; ok {
			continue
		}
		words[p] = randomWord(r, words)
		if r.IntN(3) == 0 && depth < 4 {
			words[p] = "/" + dirOptions[r.IntN(len(dirOptions))]
			grow(r, words, p, depth+1)
		}
	}
}

func randomWord(r *rand.Rand, words map[string]string) string {
	switch r.IntN(10) {
	case 0:
		return ">" + randomNames[r.IntN(2)]
	case 1:
		return "|" + []string{"", ";mode=640"}[r.IntN(2)]
	case 2:
		return fmt.Sprintf("!1,%d", r.IntN(3))
	case 3:
		others := slices.Sorted(maps.Keys(words))
		if len(others) > 0 {
			if other := others[r.IntN(len(others))]; words[other] != "" && words[other][0] != '/' && words[other][0] != '&' {
				return "&" + other
			}
		}
	}
	return "=" + []string{"", "1", "2", "3"}[r.IntN(4)] + fileOptions[r.IntN(len(fileOptions))]
}

func drop(words map[string]string, p string) {
	maps.DeleteFunc(words, func(q, _ string) bool { return q == p || strings.HasPrefix(q, p+"/") })
}

// vary is another version of a tree.
func vary(r *rand.Rand, old map[string]string) map[string]string {
	words := maps.Clone(old)
	for _, p := range slices.Sorted(maps.Keys(old)) {
		w, ok := words[p]
		if !ok {
			continue
		}
		switch r.IntN(8) {
		case 0:
			drop(words, p)
		case 1:
			drop(words, p)
			words[p] = randomWord(r, words)
		case 2:
			if w[0] == '=' {
				words[p] = w[:1] + strings.TrimPrefix(w[1:], "1") + fileOptions[r.IntN(len(fileOptions))]
			}
		case 3:
			if w[0] == '/' {
				words[p] = "/" + dirOptions[r.IntN(len(dirOptions))]
				grow(r, words, p, strings.Count(p, "/")+1)
			} else {
				drop(words, p)
				words[p] = "/"
				grow(r, words, p, strings.Count(p, "/")+1)
			}
		}
	}
	grow(r, words, ".", 0)
	return words
}

// list are the words, links after what they link to.
func list(words map[string]string) []string {
	var plain, links []string
	for _, p := range slices.Sorted(maps.Keys(words)) {
		w := words[p]
		if w[0] != '&' {
			plain = append(plain, p+w)
		} else if other := words[w[1:]]; other == "" || other[0] == '/' || other[0] == '&' {
			plain = append(plain, p+"=1")
		} else {
			links = append(links, p+w)
		}
	}
	return append(plain, links...)
}

// randomRules hide some paths of both trees.
func randomRules(r *rand.Rand, trees ...map[string]string) (exclude, addOnly string) {
	var lines []string
	for _, words := range trees {
		paths := slices.Sorted(maps.Keys(words))
		if p := paths[r.IntN(len(paths))]; !strings.Contains(p, "\n") {
			lines = append(lines, "/"+p+[]string{"", "/**", "/"}[r.IntN(3)])
		}
	}
	return strings.Join(lines, ","), []string{"- *", "+ */,- a*", "*"}[r.IntN(3)]
}

// TestRandom upgrades generated trees, rolls some back, cuts the power in
// others, with and without rules. SEED repeats a run.
func TestRandom(t *testing.T) {
	needs.Root(t)
	seed := needs.Seed(t)
	var mu sync.Mutex
	counts := map[string]int{}
	t.Cleanup(func() { t.Logf("%d cases with seed %d: %v", randomCases(), seed, counts) })
	for i := range randomCases() {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			what := randomCase(t, rand.New(rand.NewPCG(seed, uint64(i))))
			mu.Lock()
			defer mu.Unlock()
			counts[what]++
		})
	}
}

func randomCase(t *testing.T, r *rand.Rand) string {
	disk := map[string]string{}
	grow(r, disk, ".", 0)
	target := vary(r, disk)
	l := newLabIn(t, inMemory(t), inMemory(t), append(list(disk), transaction.Dir+"/;mode=700"), list(target))
	exclude, addOnly, ruled := "", "", r.IntN(2) == 0
	if ruled {
		exclude, addOnly = randomRules(r, disk, target)
	}
	old, u, exchange := describe(t, l.root), l.upgrade(t, exclude, addOnly), r.IntN(4) > 0
	if len(u.Plan.Conflicts) > 0 {
		if _, err := l.machine.Upgrade(t.Context(), u); err == nil {
			t.Error("an upgrade with conflicts succeeded")
		}
		wantSame(t, "after a refused upgrade", old, describe(t, l.root))
		return "conflicts"
	}
	want := u.Target
	if ruled {
		want = expect(t, u.Plan, old)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("disk %q\ntarget %q\nexclude %q add_only %q exchange %v", list(disk), list(target), exclude, addOnly, exchange)
		}
	})
	if r.IntN(2) == 0 {
		return cutRandomly(t, r, l, u, old, want, ruled, exchange)
	}
	l.machine = l.machine.WithHooks(nil, exchange)
	_, err := l.machine.Upgrade(t.Context(), u)
	must(t, err)
	compare(t, ruled, "after the upgrade", want, describe(t, l.root))
	_, err = l.machine.Rollback(t.Context())
	must(t, err)
	wantSame(t, "after the rollback", old, describe(t, l.root))
	return "rolled back"
}

// compare leaves hard links out where rules hide some of a group: what then
// is one file the plan alone does not tell.
func compare(t *testing.T, ruled bool, what string, want, got *manifest.Manifest) {
	t.Helper()
	if ruled {
		want, got = withoutLinks(want), withoutLinks(got)
	}
	wantSame(t, what, want, got)
}

func withoutLinks(m *manifest.Manifest) *manifest.Manifest {
	entries := slices.Clone(m.Entries)
	for i := range entries {
		entries[i].Group = 0
	}
	return &manifest.Manifest{Entries: entries}
}

// cutRandomly cuts the power in the upgrade, and some more times in the
// recoveries from it.
func cutRandomly(t *testing.T, r *rand.Rand, l *lab, u transaction.Upgrade, old, want *manifest.Manifest, ruled, exchange bool) string {
	p := &power{limit: r.IntN(20 + 10*len(u.Plan.Operations))}
	m := l.machine.WithHooks(p.step, exchange)
	m.Guard = plugged{l.guard, p}
	if _, err := m.Upgrade(t.Context(), u); err != nil && !errors.Is(err, errPower) {
		t.Errorf("Upgrade: %v", err)
	}
	status, err := l.machine.Status()
	must(t, err)
	for range r.IntN(3) {
		p := &power{limit: r.IntN(30)}
		m := l.machine.WithHooks(p.step, exchange)
		m.Guard = plugged{l.guard, p}
		if _, err := m.Recover(t.Context()); err != nil && !errors.Is(err, errPower) {
			t.Errorf("Recover: %v", err)
		}
	}
	_, err = l.machine.WithHooks(nil, exchange).Recover(t.Context())
	must(t, err)
	if isNew(status.Phase) {
		compare(t, ruled, "after a power cut", want, describe(t, l.root))
		return "cut, new"
	}
	wantSame(t, "after a power cut", old, describe(t, l.root))
	return "cut, old"
}
