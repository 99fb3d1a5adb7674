package plan_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"edeploy/agent/internal/filter"
	"edeploy/agent/internal/plan"
	"edeploy/images/manifest"

	"github.com/google/go-cmp/cmp"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tree makes a manifest of words: "usr/bin/app=2" is a file with content 2,
// "usr/" a directory, "x@1" a file of hard-link group 1, "x^cap" one with an
// attribute, "x>y" a link. Directories are added.
func tree(t testing.TB, words string) *manifest.Manifest {
	t.Helper()
	entries := map[string]manifest.Entry{}
	add := func(e manifest.Entry) {
		e.Mode, e.ModTime = 0o755, time.Unix(1e9, 0)
		entries[e.Path] = e
		for up := e.Path; strings.Contains(up, "/"); {
			up = up[:strings.LastIndex(up, "/")]
			entries[up] = manifest.Entry{Path: up, Type: manifest.Dir, Mode: 0o755, ModTime: time.Unix(1e9, 0)}
		}
	}
	add(manifest.Entry{Path: ".", Type: manifest.Dir})
	for word := range strings.FieldsSeq(words) {
		e := manifest.Entry{Path: word, Type: manifest.File, Size: 100}
		if at := strings.IndexAny(word, "=@^>"); at >= 0 {
			value := word[at+1:]
			switch e.Path = word[:at]; word[at] {
			case '=':
				e.SHA256[0] = value[0]
			case '@':
				e.Group = int(value[0] - '0')
			case '^':
				e.Xattrs = map[string][]byte{"security.capability": []byte(value)}
			case '>':
				e.Type, e.Link, e.Size = manifest.Symlink, value, 0
			}
		}
		if name, ok := strings.CutSuffix(e.Path, "/"); ok {
			e.Path, e.Type, e.Size = name, manifest.Dir, 0
		}
		add(e)
	}
	var list []manifest.Entry
	for _, e := range entries {
		list = append(list, e)
	}
	m, err := manifest.New(list)
	must(t, err)
	return m
}

func planOf(t testing.TB, target, disk, exclude, addOnly string) *plan.Plan {
	t.Helper()
	x, err := filter.Parse(strings.ReplaceAll(exclude, ",", "\n"), filter.Exclude)
	must(t, err)
	a, err := filter.Parse(strings.ReplaceAll(addOnly, ",", "\n"), filter.Include)
	must(t, err)
	p, err := plan.New(tree(t, target), tree(t, disk), x, a)
	must(t, err)
	return p
}

func lines(p *plan.Plan) []string {
	var all []string
	for _, o := range p.Operations {
		all = append(all, fmt.Sprintf("%d %s %s", o.Pass, o.Action, o.Path))
	}
	for _, c := range p.Conflicts {
		all = append(all, c.String())
	}
	return all
}

func TestPlan(t *testing.T) {
	const nothing = "- *"
	for name, c := range map[string]struct {
		target, disk, exclude, addOnly string
		want                           []string
	}{
		"reference section 10.4": {
			"usr/bin/app=2 var/lib/app/schema2 var/lib/app/db.seed=2", "usr/bin/app=1 usr/bin/gone var/lib/app/db.seed=1 var/lib/app/live",
			"/var/lib/app/", "+ /var/,+ /var/lib/,+ /var/lib/app/,+ /var/lib/app/**,- *",
			[]string{"1 replace usr/bin/app", "1 delete usr/bin/gone", "2 create var/lib/app/schema2"}},
		"equal":                  {"a b/c", "a b/c", "", nothing, nil},
		"deletions deepest last": {"a", "a b/c/d b/e", "", nothing, []string{"1 delete b/e", "1 delete b/c/d", "1 delete b/c", "1 delete b"}},
		"excluded pins":          {"a", "a b/c b/log", "/b/log", nothing, []string{"1 delete b/c"}},
		"file system moved":      {"lib>usr/lib usr/lib/x", "lib/x usr/", "", nothing, []string{"1 replace lib", "1 create usr/lib", "1 create usr/lib/x", "1 delete lib/x"}},
		"attribute only":         {"ping^cap", "ping", "", nothing, []string{"1 change ping"}},
		"new hard link":          {"a@1 b@1", "a b", "", nothing, []string{"1 replace b"}},
		"link broken up":         {"a b", "a@1 b@1", "", nothing, []string{"1 replace b"}},
		"link to an excluded":    {"a@1 b@1", "a b", "b", nothing, nil},
		"excluded link stays":    {"a b", "a@1 b@1", "b", nothing, nil},
		"excluded link, changed": {"a^cap b", "a@1 b@1", "b", nothing, []string{"1 replace a"}},
		"everything excluded":    {"a b/c", "x y/z", "*", nothing, nil},
		"no add_only end":        {"a b/c", "x", "*", "*", []string{"2 create a", "2 create b", "2 create b/c"}},
		"file in add_only's way": {"var/lib/app/x", "var/lib/app", "/var/lib/app", "*", nil},
		"excluded in the way": {"a/b", "a/b/c/data", "data", nothing,
			[]string{"1 delete a/b/c", "a/b is to become a file, but a/b/c/data in it is excluded"}},
		"excluded by its kind": {"a/b", "a/b/c", "b/", nothing, []string{"a/b is to become a file, but the dir there is excluded"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := lines(planOf(t, c.target, c.disk, c.exclude, c.addOnly))
			if name == "excluded in the way" { // operations beside a conflict are not complete
				got = slices.DeleteFunc(got, func(l string) bool { return strings.HasPrefix(l, "1 ") })
				c.want = c.want[1:]
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTotals(t *testing.T) {
	got := planOf(t, "a=1 b=1 c=2 d/ e=3 f^x", "c=1 d/ e=3 f g", "", "- *").Totals()
	// a and b have the same content.
	want := plan.Totals{Create: 2, Replace: 1, Change: 1, Delete: 1, Files: 2, Bytes: 200}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("totals (-want +got):\n%s", diff)
	}
}

// BenchmarkNew plans an upgrade of a tree as large as Debian with a database
// server, with as many rules as the original's default exclude.
func BenchmarkNew(b *testing.B) {
	words := func(version int) string {
		var w strings.Builder
		for i := range 20000 {
			fmt.Fprintf(&w, "usr/share/doc/package%d/file%d=%d ", i/50, i, i*version%7)
		}
		return w.String()
	}
	target, disk := tree(b, words(1)), tree(b, words(2))
	exclude, err := filter.Parse(strings.Repeat("/var/log/**\n*.dpkg-new\n/etc/ssh/ssh_host_*\n/home/\n**/cache/*\n", 8), filter.Exclude)
	must(b, err)
	addOnly, err := filter.Parse("+ /var/\n+ /var/**\n- *\n", filter.Include)
	must(b, err)
	for b.Loop() {
		if _, err := plan.New(target, disk, exclude, addOnly); err != nil {
			b.Fatal(err)
		}
	}
}
