package filter_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"edeploy/agent/internal/filter"
	"edeploy/integration/needs"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// cases is how many rule lists the comparison makes; FILTER_CASES=5000 makes more.
func cases(t testing.TB) int {
	n, err := strconv.Atoi(os.Getenv("FILTER_CASES"))
	if err != nil || n <= 0 {
		return 150
	}
	return n
}

var names = []string{"a", "b", "ab", "ba", "c", "abc", "a.b", "[a]", "a*", "#x", "-", "B", "1", "a b", "a\\b", "é", "!", "]", "-a"}

// tree answers paths, true for directories.
func tree(r *rand.Rand) map[string]bool {
	paths := map[string]bool{}
	var grow func(dir string, depth int)
	grow = func(dir string, depth int) {
		for range 2 + r.IntN(5) {
			name := path.Join(dir, names[r.IntN(len(names))])
			if _, ok := paths[name]; ok {
				continue
			}
			paths[name] = depth < 4 && r.IntN(5) < 3
			if paths[name] {
				grow(name, depth+1)
			}
		}
	}
	grow(".", 0)
	return paths
}

var pieces = []string{"a", "b", "ab", "c", "*", "**", "***", "?", "/", "/", "/", "[ab]", "[!a]", "[^b]", "[a-c]", "[[:alpha:]]", "[[:upper:]1]", "[]a]", "[[:x:]",
	"[a", "\\", "\\*", "\\[", "-", "#", " ", ".", "**/", "/**", "/*", "*/", "[a-]", "[\\]]", "[[:punct:]]", "[[a:]", "[-a]", "é", "!", "]", "[b-a]", "[a/]"}

func pattern(r *rand.Rand, paths []string) string {
	var b strings.Builder
	if r.IntN(3) == 0 { // something that is there, perhaps with a piece replaced
		name := paths[r.IntN(len(paths))]
		if r.IntN(2) == 0 {
			name = "/" + name
		}
		if elements := strings.Split(name, "/"); r.IntN(2) == 0 {
			elements[r.IntN(len(elements))] = pieces[r.IntN(len(pieces))]
			name = strings.Join(elements, "/")
		}
		b.WriteString(name)
	} else {
		if r.IntN(4) == 0 {
			b.WriteByte('/')
		}
		for range 1 + r.IntN(5) {
			b.WriteString(pieces[r.IntN(len(pieces))])
		}
	}
	b.WriteString([]string{"", "", "", "/", "/***", "/**", "/*"}[r.IntN(7)])
	return b.String()
}

func rules(r *rand.Rand, paths []string) string {
	var b strings.Builder
	for range 1 + r.IntN(6) {
		switch r.IntN(12) {
		case 0:
			b.WriteString([]string{"", "# comment", "; comment", "!", "\r"}[r.IntN(5)] + "\n")
		default:
			b.WriteString([]string{"", "", "- ", "+ ", "+ "}[r.IntN(5)] + pattern(r, paths) + "\n")
		}
	}
	if r.IntN(3) == 0 {
		b.WriteString("- *\n")
	}
	return b.String()
}

func makeTree(t testing.TB, root string, paths map[string]bool) {
	for _, name := range slices.Sorted(maps.Keys(paths)) {
		if paths[name] {
			must(t, os.MkdirAll(filepath.Join(root, name), 0o755))
		} else {
			must(t, os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755))
			must(t, os.WriteFile(filepath.Join(root, name), nil, 0o644))
		}
	}
}

// rsync answers the names that it lists, without slashes at the end.
func rsync(args ...string) ([]string, error) {
	c := exec.Command("rsync", append([]string{"-a", "-8", "-n", "--out-format=%n"}, args...)...)
	c.Env = append(os.Environ(), "LC_ALL=C")
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("%v: %w", c.Args, err)
	}
	var listed []string
	for line := range strings.Lines(string(out)) {
		line, _ = strings.CutPrefix(strings.TrimSuffix(line, "\n"), "deleting ")
		if line = strings.TrimSuffix(line, "/"); line != "." && !strings.HasPrefix(line, "cannot delete non-empty directory: ") {
			listed = append(listed, line)
		}
	}
	slices.Sort(listed)
	return listed, nil
}

// ours answers what the rules include, and the directories that --delete cannot
// remove because something hidden lies in them.
func ours(list filter.List, paths map[string]bool) (sent []string, pinned map[string]bool) {
	pinned = map[string]bool{}
	for name, dir := range paths {
		if list.Hides(name, dir) {
			for up := path.Dir(name); up != "."; up = path.Dir(up) {
				pinned[up] = true
			}
			continue
		}
		sent = append(sent, name)
	}
	slices.Sort(sent)
	return sent, pinned
}

// TestLikeRsync compares, on generated trees and rule lists, what the rules let
// through with what the real rsync sends and deletes.
func TestLikeRsync(t *testing.T) {
	needs.Program(t, "rsync")
	seed := needs.Seed(t)
	var compared, visible, total int
	var lock sync.Mutex
	t.Cleanup(func() {
		t.Logf("seed %d: %d rule lists compared twice each, %d of %d paths included", seed, compared, visible, total)
		if !t.Failed() && (visible == 0 || visible == total) {
			t.Error("the generated rules decide nothing")
		}
	})
	const perTree = 10
	for i := range (cases(t) + perTree - 1) / perTree {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			paths := tree(r)
			root, empty := t.TempDir(), t.TempDir()
			makeTree(t, root, paths)
			for range perTree {
				text := rules(r, slices.Sorted(maps.Keys(paths)))
				option, plain := "--exclude-from=", filter.Exclude
				if r.IntN(3) == 0 {
					option, plain = "--include-from=", filter.Include
				}
				list, refused := filter.Parse(text, plain)
				file := filepath.Join(t.TempDir(), "rules")
				must(t, os.WriteFile(file, []byte(text), 0o644))
				if refused != nil {
					if _, err := rsync(option+file, root+"/", empty+"/"); err == nil {
						t.Errorf("rsync takes %s of %q (seed %d), the filter does not: %v", option, text, seed, refused)
					}
					continue
				}
				sent, pinned := ours(list, paths)
				got, err := rsync(option+file, root+"/", empty+"/")
				must(t, err)
				if diff := cmp.Diff(got, sent); diff != "" {
					t.Errorf("sent with %s of %q (seed %d), -rsync +filter:\n%s", option, text, seed, diff)
				}
				// Which pinned directories a dry run lists is an accident: a real one finds them not empty.
				isPinned := func(name string) bool { return pinned[name] }
				got, err = rsync("--delete-after", option+file, empty+"/", root+"/")
				must(t, err)
				if diff := cmp.Diff(slices.DeleteFunc(got, isPinned), slices.DeleteFunc(slices.Clone(sent), isPinned), cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("deleted with %s of %q (seed %d), -rsync +filter:\n%s", option, text, seed, diff)
				}
				lock.Lock()
				compared, visible, total = compared+1, visible+len(sent), total+len(paths)
				lock.Unlock()
			}
		})
	}
}
