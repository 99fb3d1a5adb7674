package match_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"edeploy/server/internal/match"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

func TestHelpers(t *testing.T) {
	for _, tc := range []struct {
		helper string
		yes    []any
		no     []any
	}{
		{"gt(4)", []any{"5", "4.5", "1e2", "inf", " 5 ", `"5"`, int64(5), 4.5}, []any{"4", "3", "abc", "", "nan", "0x10", nil, true}},
		{"ge(4)", []any{"4", "4.0"}, []any{"3.9"}},
		{"lt(4)", []any{"3", "-inf"}, []any{"4", "x"}},
		{"le('4')", []any{"4"}, []any{"5"}},
		{"gt( 4 )", []any{"5"}, []any{"4"}},
		{"gt(1_000)", []any{"1001"}, []any{"999"}},
		{"range(4.9, 5.10)", []any{"4.9", "5.1", "5"}, []any{"4.8", "5.2", "x"}},
		{"in(300 , 400)", []any{"300", "400"}, []any{"30", ""}},
		{"in(200, 300 )", []any{"300", "200"}, nil},
		{`in( "300" )`, []any{"300"}, nil},
		{`in("30,0", 'x')`, []any{"30,0", "x", "30", "0"}, []any{"300"}},
		{"in(Rack (R7), b)", []any{"Rack (R7)", "b"}, []any{"Rack"}},
		{"in(300)", []any{int64(300), `"300"`}, []any{"3000"}},
		{"network(192.168.122.0/24)", []any{"192.168.122.7"}, []any{"192.168.123.7", "x", "", "192.168.122.007", "::1"}},
		{"network(10.44.3.1/255.255.0.0)", []any{"10.44.0.7"}, []any{"10.45.0.7"}},
		{"network(10.44.0.0/0.0.255.255)", []any{"10.44.0.7"}, []any{"10.45.0.7"}},
		{"network(10.44.0.7)", []any{"10.44.0.7"}, []any{"10.44.0.8"}},
		{"regexp(^02:)", []any{"02:aa"}, []any{"a02:"}},
		{"regexp(^a{1,2}$)", []any{"a", "aa"}, []any{"aaa", "b"}},
		{"regexp(a{,2}b)", []any{"b", "aab"}, []any{"a"}},
		{`regexp(x\Z)`, []any{"ax"}, []any{"xa"}},
		{"regexp('a b ')", []any{"a b c"}, []any{"a bc"}},
		{"regexp((a|b)c)", []any{"ac", "bc"}, []any{"c"}},
		{"not(in(100, 450))", []any{"451"}, []any{"100", "450"}},
		{"not(regexp(^02:))", []any{"06:"}, []any{"02:"}},
		{`not(regexp(\)))`, []any{"("}, []any{")"}},
		{"not(regexp([)(]))", []any{"x"}, []any{")", "("}},
		{"and(ge(100), le(500))", []any{"100", "500"}, []any{"99", "501"}},
		{"or(and(gt(1), in(2, 3)), in(a,b))", []any{"2", "3", "a", "b"}, []any{"1", "4"}},
		{"or(regexp(^(a|b),c), in(d))", []any{"a,c", "d"}, []any{"c"}},
		{"not(text)", nil, []any{"text", "x"}},
		{"and(gt(1), text)", []any{"2"}, []any{"1"}},
		{"Rack Node (R7)", []any{"Rack Node (R7)"}, []any{"Rack Node"}},
		{"Box ()", []any{"Box ()"}, []any{"Box"}},
		{"nosuch(1)", []any{"nosuch(1)"}, []any{"1"}},
		{"300", []any{"300", int64(300)}, []any{"3000", 300.5}},
		{"True", []any{true, "True"}, []any{int64(1)}},
		{"", []any{""}, []any{"x"}},
	} {
		specs := compile(t, []line{{"c", "$i", "f", tc.helper}})
		for _, v := range tc.yes {
			if r := match.Match(wire.Hardware{{Category: "c", ID: "x", Field: "f", Value: v}}, specs); !r.OK {
				t.Errorf("%s does not accept %v", tc.helper, v)
			}
		}
		for _, v := range tc.no {
			if r := match.Match(wire.Hardware{{Category: "c", ID: "x", Field: "f", Value: v}}, specs); r.OK {
				t.Errorf("%s accepts %v", tc.helper, v)
			}
		}
	}
}

func TestCompileErrors(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"[('a', 'b', 'c', 'gt(abc)')]", `x.specs:1:18: gt(abc): gt wants a number, got "abc"`},
		{"[\n ('a', 'b', 'c', 'd'),\n ('a', 'b', 'c', 'gt(1,2)')]", "x.specs:3:18: gt(1,2): gt takes 1 argument, got 2"},
		{"[('a', 'b', 'c', '$x=range(1)')]", "x.specs:1:18: range(1): range takes 2 arguments, got 1"},
		{"[('a', 'b', 'c', 'network(10.0.0/8)')]", `x.specs:1:18: network(10.0.0/8): network wants an IPv4 network, got "10.0.0/8"`},
		{"[('a', 'b', 'c', 'network(10.0.0.0/33)')]", `x.specs:1:18: network(10.0.0.0/33): network "10.0.0.0/33": mask is neither a number from 0 to 32 nor an address`},
		{"[('a', 'b', 'c', 'network(10.0.0.0/255.0.255.0)')]", `x.specs:1:18: network(10.0.0.0/255.0.255.0): network "10.0.0.0/255.0.255.0": mask has gaps`},
		{"[('a', 'b', 'c', 'regexp((?=x))')]", "x.specs:1:18: regexp((?=x)): regular expression holds (?=: lookaround, conditions and back references are not supported"},
		{`[('a', 'b', 'c', r'regexp((a)\1)')]`, `x.specs:1:18: regexp((a)\1): regular expression holds \1: lookaround, conditions and back references are not supported`},
		{"[('a', 'b', 'c', 'regexp([a)')]", "x.specs:1:18: regexp([a): regular expression: error parsing regexp: missing closing ]: `[a`"},
		{"[('a', 'b', 'c', 'not(and(gt(1), gt(x)))')]", `x.specs:1:18: not(and(gt(1), gt(x))): gt wants a number, got "x"`},
		{"[('a', 'b', 'c')]", "x.specs:1:2: tuple has 3 fields, want 4 (category, id, field, value)"},
		{"[('a', 'b', 'c', 'd')\n ('a', 'b', 'c', 'd')]", `x.specs:2:2: want a comma or "]", got "("`},
		{"['a']", "x.specs:1:2: want a tuple of four texts, got 'a' (is a comma missing before it?)"},
		{"{}", "x.specs:1:1: want a list of tuples of four texts"},
		{"[('a', 'b', 'c', ['d'])]", "x.specs:1:18: want a text, got ['d']"},
		{"import os", "x.specs:1:1: import is not a value: text needs quotes"},
		{"[open('x')]", "x.specs:1:2: open(...) is a call: only data is allowed here"},
		{"[", `x.specs:1:1: list is never closed: "]" is missing`},
		{"", "x.specs:1:1: file is empty"},
		{"# only a comment\n", "x.specs:2:1: file is empty"},
		{"[]\n# edeploy: wipe\n", "x.specs:2:1: edeploy: wipe wants yes, ask or refuse"},
		{"# edeploy: wipe maybe\n[]", "x.specs:1:1: edeploy: wipe wants yes, ask or refuse"},
	} {
		if _, err := match.Compile("x.specs", tc.text); err == nil || err.Error() != tc.want {
			t.Errorf("%s:\ngot  %v\nwant %s", tc.text, err, tc.want)
		}
	}
}

// TestWipePolicy: the strictest line of a file counts.
func TestWipePolicy(t *testing.T) {
	for text, want := range map[string]wire.WipePolicy{"[]": "", "# edeploy: wipe yes\n[]": wire.WipeYes, "#edeploy: wipe ask\n# edeploy: expect r7\n[]": wire.WipeAsk,
		"# edeploy: wipe refuse\n[]\n# edeploy: wipe ask": wire.WipeRefuse} {
		specs, err := match.Compile("x.specs", text)
		if err != nil || specs.Wipe != want || len(specs.Warnings) > 0 {
			t.Errorf("%q: %+v, %v", text, specs, err)
		}
	}
}

// TestNeverMatch: what the original never matches, we do not either, but say so.
func TestNeverMatch(t *testing.T) {
	for _, field := range []string{"$x=300", "$x=regexp(a=b)", "$x=nosuch(1)", "$gt(1)"} {
		specs := compile(t, []line{{"c", "i", "f", field}})
		for _, v := range []string{"300", "a=b", "1", "2"} {
			if match.Match(hardware([]line{{"c", "i", "f", v}}), specs).OK {
				t.Errorf("%s matches %s", field, v)
			}
		}
		if len(specs.Warnings) != 1 || !strings.HasPrefix(specs.Warnings[0].Error(), "test.specs:1:18: "+field+" can never match") {
			t.Errorf("%s: warnings %q", field, specs.Warnings)
		}
	}
}

// TestTypes: a text is preferred where the original, which knows types, takes
// it; a number is accepted where nothing else fits.
func TestTypes(t *testing.T) {
	h := wire.Hardware{{Category: "c", ID: "n", Field: "f", Value: int64(300)}, {Category: "c", ID: "s", Field: "f", Value: "300"}}
	r := match.Match(h, compile(t, []line{{"c", "$a", "f", "300"}, {"c", "$b", "f", "$v"}}))
	want := match.Bindings{"a": "s", "b": "n", "v": int64(300)}
	if diff := cmp.Diff(want, r.Bindings); diff != "" {
		t.Errorf("bindings (-want +got):\n%s", diff)
	}
	r = match.Match(h[:1], compile(t, []line{{"c", "$a", "f", "$v=gt(4)"}}))
	if diff := cmp.Diff(match.Bindings{"a": "n", "v": int64(300)}, r.Bindings); diff != "" {
		t.Errorf("bindings (-want +got):\n%s", diff)
	}
}

func TestFailure(t *testing.T) {
	h := hardware([]line{{"disk", "sda", "size", "500"}, {"disk", "sda", "rotational", "1"}, {"disk", "sdb", "size", "500"}, {"disk", "sdb", "rotational", "0"}})
	specs, err := match.Compile("x.specs", "[\n('disk', '$d', 'size', 'gt(4)'),\n# a comment\n('disk', '$d', 'rotational',\n '0'),\n('disk', '$d', 'vendor', '$v'),\n]")
	if err != nil {
		t.Fatal(err)
	}
	got := match.Match(h, specs).Failure
	want := &match.Failure{Line: 6, Spec: "('disk', '$d', 'vendor', '$v')", Bound: match.Bindings{"d": "sdb"}, First: match.Bindings{"d": "sda"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("failure (-want +got):\n%s", diff)
	}
}

// disks are so many equal disks; every second one does not rotate.
func disks(n int) (lines []line) {
	for i := range n {
		id := fmt.Sprintf("sd%d", i)
		lines = append(lines, line{"disk", id, "size", "500"}, line{"disk", id, "rotational", fmt.Sprint(i % 2)},
			line{"disk", id, "model", fmt.Sprint("m", i%10)}, line{"disk", id, "serial", fmt.Sprint("s", i)})
	}
	return lines
}

// kinds are the models of so many things of so many kinds, ten models each.
func kinds(n, things int) (lines []line) {
	for kind := range n {
		for i := range things {
			lines = append(lines, line{fmt.Sprint("k", kind), fmt.Sprint(i), "model", fmt.Sprint("m", i%10)})
		}
	}
	return lines
}

// TestHardFailures: profiles that fail late, on which the original spends
// minutes to years, fail at once.
func TestHardFailures(t *testing.T) {
	wanted := func(n int, fields ...string) (specs []line) {
		for i := range n {
			for _, f := range fields {
				field, v, _ := strings.Cut(f, "=")
				specs = append(specs, line{"disk", fmt.Sprintf("$d%d", i), field, v})
			}
		}
		return specs
	}
	for _, tc := range []struct {
		name  string
		lines []line
		specs []line
	}{
		{"missing fact", disks(100), append(wanted(12, "size=gt(4)"), line{"disk", "$d0", "vendor", "x"})},
		{"impossible value", disks(100), append(wanted(12, "size=gt(4)", "rotational=0"), line{"disk", "$d11", "serial", "s7"})},
		{"one disk short", disks(11), wanted(12, "size=500")},
		{"one good disk short", disks(22), wanted(12, "size=500", "rotational=0")},
		{"one model short", disks(100), wanted(11, "size=gt(4)", "model=$m")},
		{"contradiction at the end", disks(100), append(wanted(8, "size=gt(4)", "rotational=1"), line{"disk", "$x", "serial", "$s"}, line{"disk", "$x", "model", "m3"}, line{"disk", "$x", "rotational", "0"})},
		{"groups apart", slices.Concat(kinds(3, 100), disks(100)), slices.Concat(
			[]line{{"k0", "$a", "model", "$u"}, {"k0", "$b", "model", "$u"}, {"k1", "$c", "model", "$v"}, {"k1", "$e", "model", "$v"}, {"k2", "$f", "model", "$w"}, {"k2", "$g", "model", "$w"}},
			wanted(11, "size=gt(4)", "model=$m"))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			specs := compile(t, tc.specs)
			start := time.Now()
			r := match.Match(hardware(tc.lines), specs)
			if r.OK || r.Failure.TooComplex {
				t.Errorf("got %+v, want a plain failure", r)
			}
			t.Logf("%v: line %d %s", time.Since(start), r.Failure.Line, r.Failure.Spec)
		})
	}
}

// TestManyCandidates: more than the fifty candidates at which the original
// gives up; the order goes on as below fifty.
func TestManyCandidates(t *testing.T) {
	lines := disks(120)
	r := match.Match(hardware(lines), compile(t, []line{{"disk", "$a", "size", "500"}, {"disk", "$a", "serial", "s100"}, {"disk", "$b", "size", "500"}}))
	if diff := cmp.Diff(match.Bindings{"a": "sd100", "b": "sd101"}, r.Bindings); diff != "" {
		t.Errorf("bindings (-want +got):\n%s", diff)
	}
}

// TestTooComplex: a puzzle beyond the bound (a graph without a proper
// colouring) ends soon and says so, or is solved.
func TestTooComplex(t *testing.T) {
	var lines, specs []line
	const colours = 7
	for a := range colours {
		for b := range colours {
			if a != b {
				for copies := range 40 {
					lines = append(lines, line{fmt.Sprint("c", a), fmt.Sprint(copies), "edge", fmt.Sprint("c", b)})
				}
			}
		}
	}
	for a := range colours + 1 {
		for b := range a {
			specs = append(specs, line{fmt.Sprintf("$n%d", a), fmt.Sprintf("$e%d.%d", a, b), "edge", fmt.Sprintf("$n%d", b)})
		}
	}
	compiled := compile(t, specs)
	start := time.Now()
	r := match.Match(hardware(lines), compiled)
	if r.OK {
		t.Errorf("the complete graph of %d nodes has no colouring with %d colours, got %v", colours+1, colours, r.Bindings)
	}
	t.Logf("%v, too complex %v", time.Since(start), r.Failure.TooComplex)
}

func BenchmarkHardFailure(b *testing.B) {
	specs := make([]line, 0, 13)
	for i := range 12 {
		specs = append(specs, line{"disk", fmt.Sprintf("$d%d", i), "size", "gt(4)"})
	}
	compiled := compile(b, append(specs, line{"disk", "$d0", "vendor", "x"}))
	h := hardware(disks(100))
	for b.Loop() {
		if match.Match(h, compiled).OK {
			b.Fatal("matches")
		}
	}
}

func FuzzCompile(f *testing.F) {
	for _, text := range []string{
		"[('disk', '$d', 'size', 'gt(4)'), ('network', '$eth', 'ipv4', 'network(192.168.122.0/24)')]",
		"[('a', '$x=and(gt(1), not(in(2, 3)))', '$$y=regexp(^(a|b)[)]{1,2})', 'or(range(1,2),le(x))')]",
		"[('$', '$$', '$=', '$=gt(1)'), ('', '()', 'in()', 'not(not(not(x)))')]", "[(1, None, True, 2.5)]",
		"# edeploy: disks $a, $$b, size=not(in(2, 3)), order=-size\n[('disk', '$a', 'rotational', '1')]", "# edeploy: disks $a, =,order=\n[]",
	} {
		f.Add(text, "disk", "sda", "size", "(1)")
	}
	f.Fuzz(func(t *testing.T, text, category, id, field, v string) {
		specs, err := match.Compile("f.specs", text)
		if err != nil {
			return
		}
		h := hardware([]line{{category, id, field, v}, {category, id, field, "1"}, {v, field, id, category}, {"disk", "sda", "size", v}, {"disk", "sda", "rotational", v}, {category, v, field, v}})
		start := time.Now()
		r := match.Match(h, specs)
		if r.OK != (r.Failure == nil) {
			t.Errorf("result %+v", r)
		}
		if time.Since(start) > 5*time.Second {
			t.Errorf("took %v", time.Since(start))
		}
	})
}
