package filter_test

import (
	"strings"
	"testing"

	"edeploy/agent/internal/filter"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestExamples are the sentences of rsync(1), "PATTERN MATCHING RULES", and
// what upgrade metadata of the original look like. A path that ends with a
// slash is a directory.
func TestExamples(t *testing.T) {
	for _, c := range []struct{ rules, hidden, seen string }{
		{"*.o", "a.o sub/b.o", "a.c o"},
		{"/foo", "foo", "sub/foo"},
		{"foo/", "foo/ sub/foo/ foo/x", "foo sub/foo"},
		{"foo/*/bar", "foo/x/bar foo/x/bar/y sub/foo/x/bar", "foo/bar foo/x/y/bar"},
		{"/foo/**/bar", "foo/x/bar foo/x/y/bar", "foo/bar sub/foo/x/bar"},
		{"/home/joe/***", "home/joe/ home/joe/x", "home/ home/jo/ home/joe"},
		{"+ /var/\n+ /var/**\n- *", "etc/ etc/x usr/var/ var", "var/ var/lib/ var/lib/x"},
		{"+ /some/path/this-file\n- *", "some/ some/path/this-file", "."},
		{"[!a]?", "bc cc", "ac b bcd"},
		{"x\\*[y]", "x*y", "xay x\\*y"},
		{"x\\y", "x\\y", "xy"},
		{"# no\n; no\n\r\nreal #;", "real\\040#;", "# ;"},
		{"a\n!\nb", "b", "a"},
		{"!a", "!a", "a"},
		{"[[:digit:]-]", "1 -", "a"},
		{"[a", "", "a [a"},
		{"**/x", "x a/x a/b/x", "ax"},
		{"a**x", "ax a/b/x b/a/x", "ba/x"},
		{"- *", "a", "."},
	} {
		list, err := filter.Parse(c.rules, filter.Exclude)
		must(t, err)
		for want, names := range map[bool]string{true: c.hidden, false: c.seen} {
			for name := range strings.FieldsSeq(names) {
				name, dir := strings.CutSuffix(strings.ReplaceAll(name, `\040`, " "), "/")
				if got := list.Hides(name, dir); got != want {
					t.Errorf("rules %q: Hides(%q, dir %v) = %v", c.rules, name, dir, got)
				}
			}
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for want, text := range map[string]string{
		`line 2: "- " has no pattern`:                   "a\n- \n",
		`line 1: "+ " has no pattern`:                   "+ ",
		"line 1: a pattern of 4096 bytes, at most 4095": strings.Repeat("x", 4096),
		`line 1: "a\x00b" has a zero byte`:              "a\x00b",
		"1048577 bytes of rules":                        strings.Repeat("#", 1<<20+1),
	} {
		if _, err := filter.Parse(text, filter.Exclude); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%.20q) = %v, want %q", text, err, want)
		}
	}
}

func TestPlainActions(t *testing.T) {
	list, err := filter.Parse("/a\n- *", filter.Include)
	must(t, err)
	if list.Len() != 2 || list.Excludes("a", false) || !list.Excludes("b", false) {
		t.Error("a plain line of an include file does not include")
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"- *.o\n+ /a/**\n!\n", "[[:alpha:]", "[]-a]\\", "a/***\n**/b\n", "***/", "[^]a-]b*/", "- ", "/", "//", "[a-\\"} {
		f.Add(seed, "a/b/c", true)
	}
	f.Fuzz(func(t *testing.T, text, name string, dir bool) {
		list, err := filter.Parse(text, filter.Exclude)
		if err != nil {
			return
		}
		excludes, hides := list.Excludes(name, dir), list.Hides(name, dir)
		if excludes && !hides {
			t.Errorf("rules %q exclude %q without hiding it", text, name)
		}
		if list.Excludes(".", true) {
			t.Errorf("rules %q exclude the root", text)
		}
	})
}
