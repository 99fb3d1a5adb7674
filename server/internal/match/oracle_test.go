package match_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"edeploy/integration/needs"
	"edeploy/server/internal/literal"
	"edeploy/server/internal/match"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

// line is a spec or a fact.
type line [4]string

// The original's search, written down as reference section 5 has it, with its
// helpers. It is the first oracle: where it succeeds, we answer the same.

var callForm = regexp.MustCompile(`^([^(]+)\(\s*([^,]+)(?:,\s*(.+))?\)$`)

// helper evaluates an expression against a value: known tells whether it has
// the form of a call of a known helper; broken stands for an exception.
func helper(expression, v string) (holds, form, broken bool) {
	m := callForm.FindStringSubmatch(expression)
	if m == nil {
		return false, false, false
	}
	args := []string{m[2]}
	if m[3] != "" {
		args = append(args, regexp.MustCompile(`\s*,\s*`).Split(m[3], -1)...)
	}
	for i := range args {
		args[i] = strings.Trim(args[i], `'"`)
	}
	v = strings.Trim(v, `'"`)
	switch m[1] {
	case "gt", "le":
		x, err := strconv.ParseFloat(v, 64)
		n, err2 := strconv.ParseFloat(args[0], 64)
		if len(args) != 1 || err != nil || err2 != nil {
			return false, true, true
		}
		return (m[1] == "gt") == (x > n), true, false
	case "in":
		return slices.Contains(args, v), true, false
	case "not":
		inner, form, broken := helper(args[0], v)
		return !inner && form, true, broken || len(args) != 1
	}
	return false, true, false
}

type matcher struct {
	broken bool // an exception: the original answers nothing at all
	steps  int
}

// patience is where the oracle gives up, which the original never does.
const patience = 2000

// matchSpec follows reference section 5.2.
func (m *matcher) matchSpec(spec line, lines []line, arr map[string]string) (found line, rest []line, ok bool) {
	m.steps++
	if i := slices.Index(lines, spec); i >= 0 {
		return spec, slices.Delete(slices.Clone(lines), i, i+1), true
	}
next:
	for n, l := range lines {
		type binding struct{ name, value string }
		var fresh []binding
		for i := range l {
			variable, function := spec[i], spec[i]
			if strings.HasPrefix(spec[i], "$") && strings.Count(spec[i], "=") == 1 {
				variable, function, _ = strings.Cut(spec[i], "=")
			}
			if function != variable && !strings.HasSuffix(function, ")") {
				continue next // $x=300 never matches
			}
			if strings.HasSuffix(function, ")") {
				holds, form, broken := helper(function, l[i])
				m.broken = m.broken || broken
				if form && !holds {
					continue next
				}
				if form && !strings.HasPrefix(variable, "$") {
					continue
				}
			}
			switch {
			case strings.HasPrefix(variable, "$"):
				if v, ok := arr[variable[1:]]; ok && v != l[i] {
					continue next
				}
				fresh = append(fresh, binding{variable[1:], l[i]})
			case spec[i] != l[i]:
				continue next
			}
		}
		for _, b := range fresh {
			arr[b.name] = b.value
		}
		return l, slices.Delete(slices.Clone(lines), n, n+1), true
	}
	return line{}, lines, false
}

// matchAll follows reference section 5.4.
func (m *matcher) matchAll(lines, specs []line, arr map[string]string, level int) bool {
	type point struct {
		lines, specs []line
		arr          map[string]string
	}
	snapshot := maps.Clone(arr)
	if level == 50 || m.steps > patience {
		return false
	}
	var points []point
	for len(specs) > 0 {
		found, rest, ok := m.matchSpec(specs[0], lines, arr)
		if !ok {
			for i := len(points) - 1; i >= 0; i-- {
				p := points[i]
				if m.matchAll(p.lines, p.specs, p.arr, level+1) {
					maps.Copy(arr, p.arr)
					return true
				}
			}
			return false
		}
		if !maps.Equal(arr, snapshot) {
			points = append(points, point{append(slices.Clone(rest), found), specs, snapshot})
			snapshot = maps.Clone(arr)
		}
		lines, specs = rest, specs[1:]
	}
	for name, v := range maps.Clone(arr) {
		if strings.HasPrefix(name, "$") {
			arr[name[1:]] = v
			delete(arr, name)
		}
	}
	return true
}

// The second oracle tries every choice of every spec.

func exists(lines, specs []line, arr map[string]string) bool {
	if len(specs) == 0 {
		return true
	}
	for n, l := range lines {
		rest := slices.Delete(slices.Clone(lines), n, n+1)
		if l == specs[0] && exists(rest, specs[1:], arr) {
			return true
		}
		after := maps.Clone(arr)
		// One line on its own: the pattern decides, unless it is equal.
		m := matcher{}
		if _, _, ok := m.matchSpec(specs[0], []line{l}, after); ok && (l != specs[0] || plain(specs[0])) && exists(rest, specs[1:], after) {
			return true
		}
		if l == specs[0] && !plain(specs[0]) && patternAccepts(specs[0], l, after) && exists(rest, specs[1:], after) {
			return true
		}
	}
	return false
}

func plain(s line) bool { return !strings.ContainsAny(strings.Join(s[:], ""), "$(") }

// patternAccepts asks for the pattern pass on a line that equals the spec: it
// is offered beside a marker so that the literal pass has nothing to take.
func patternAccepts(spec, l line, arr map[string]string) bool {
	for i := range l {
		variable := spec[i]
		if !strings.HasPrefix(variable, "$") {
			if holds, form, _ := helper(variable, l[i]); form && !holds {
				return false
			}
			continue
		}
		if strings.Contains(variable, "=") {
			return false // its own text fits no helper of the generator
		}
		if v, ok := arr[variable[1:]]; ok && v != l[i] {
			return false
		}
	}
	for i := range l {
		if strings.HasPrefix(spec[i], "$") {
			arr[spec[i][1:]] = l[i]
		}
	}
	return true
}

// compile makes a specs file of lines.
func compile(t testing.TB, specs []line) *match.Specs {
	t.Helper()
	s, err := match.Compile("test.specs", specText(specs))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func specText(specs []line) string {
	var list literal.List
	for _, s := range specs {
		list = append(list, literal.Tuple{s[0], s[1], s[2], s[3]})
	}
	return literal.Format(list)
}

func hardware(lines []line) wire.Hardware {
	var h wire.Hardware
	for _, l := range lines {
		h = append(h, wire.Fact{Category: l[0], ID: l[1], Field: l[2], Value: l[3]})
	}
	return h
}

// TestOracles compares the matcher with both oracles on small random inputs.
func TestOracles(t *testing.T) {
	g := lineGenerator{rand.New(rand.NewPCG(needs.Seed(t), 1))}
	var count struct{ yes, no, retried, beyond, long, skipped int }
	for range inputs(t) {
		lines, specs := g.lines(), g.specs()
		if g.IntN(4) > 0 {
			specs = g.specsFor(lines)
		}
		original := matcher{}
		arr := map[string]string{}
		found := original.matchAll(lines, specs, arr, 0)
		if original.broken {
			count.skipped++
			continue
		}
		if original.steps > patience {
			found = false // not known
			count.long++
		}
		possible := exists(lines, specs, map[string]string{})
		got := match.Match(hardware(lines), compile(t, specs))
		input := fmt.Sprintf("lines %q\nspecs %q", lines, specs)
		switch {
		case got.OK != possible:
			t.Fatalf("%s\nMatch says %v, a complete search says %v", input, got.OK, possible)
		case found && !possible:
			t.Fatalf("%s\nthe oracles disagree", input)
		case !possible:
			count.no++
			checkFailure(t, input, lines, specs, got.Failure)
		case found:
			count.yes++
			if original.steps > len(specs) {
				count.retried++
			}
			if diff := cmp.Diff(withoutStale(arr, lines, specs, got.Bindings), got.Bindings); diff != "" {
				t.Fatalf("%s\nbindings differ from the original's (-want +got):\n%s", input, diff)
			}
		default:
			count.beyond++
		}
	}
	t.Logf("%+v", count)
	if count.yes == 0 || count.no == 0 || count.retried == 0 || count.beyond == 0 {
		t.Errorf("some kind of input did not occur: %+v", count)
	}
}

// inputs is how many inputs to try: EDEPLOY_ORACLE_INPUTS, or a number that
// takes seconds.
func inputs(t *testing.T) int {
	t.Helper()
	text := os.Getenv("EDEPLOY_ORACLE_INPUTS")
	if text == "" {
		return 800
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("EDEPLOY_ORACLE_INPUTS=%s: %v", text, err)
	}
	return n
}

// checkFailure: the line named as failing is the first that cannot be
// satisfied together with those before it; where a line equals a spec with
// variables, any that cannot.
func checkFailure(t *testing.T, input string, lines, specs []line, f *match.Failure) {
	t.Helper()
	if f == nil || f.TooComplex {
		t.Fatalf("%s\nfailure %+v", input, f)
	}
	for i := range specs {
		if exists(lines, specs[:i+1], map[string]string{}) {
			continue
		}
		if "["+f.Spec+"]\n" == specText(specs[i:i+1]) {
			return
		}
		if !equalsSpec(lines, specs) {
			t.Fatalf("%s\nfailure %+v, want spec %d %s", input, f, i, specText(specs[i:i+1]))
		}
	}
	t.Fatalf("%s\nfailure %+v names a spec that can be satisfied", input, f)
}

// equalsSpec tells whether a line equals a spec that is more than text.
func equalsSpec(lines, specs []line) bool {
	return slices.ContainsFunc(specs, func(s line) bool { return !plain(s) && slices.Contains(lines, s) })
}

// withoutStale removes what the original leaves behind of rejected choices
// (case M15): names with a dollar sign, and, where a line equals a spec so that
// the spec binds nothing in the end, names that were bound on the way.
func withoutStale(arr map[string]string, lines, specs []line, got match.Bindings) match.Bindings {
	literal := equalsSpec(lines, specs)
	out := match.Bindings{}
	for name, v := range arr {
		if _, ok := got[name]; strings.HasPrefix(name, "$") || literal && !ok {
			continue
		}
		out[name] = v
	}
	return out
}

// lineGenerator makes inputs small enough for the oracles, with many equal
// values, so that choices matter.
type lineGenerator struct{ *rand.Rand }

func pick[T any](g lineGenerator, from ...T) T { return from[g.IntN(len(from))] }

func (g lineGenerator) lines() []line {
	lines := make([]line, g.IntN(8))
	for i := range lines {
		lines[i] = line{
			pick(g, "d", "d", "d", "n"), pick(g, "a", "b", "c"), pick(g, "s", "s", "r"), pick(g, "1", "2", "3", "a"),
		}
		if g.IntN(40) == 0 {
			lines[i][1] = "$x"
		}
	}
	return lines
}

func (g lineGenerator) specs() []line {
	specs := make([]line, 1+g.IntN(5))
	for i := range specs {
		specs[i] = line{
			pick(g, "d", "d", "d", "d", "n", "$k"),
			pick(g, "a", "b", "$x", "$x", "$y", "$$x", "$z", "in(a,b)", "$y=not(in(a))"),
			pick(g, "s", "s", "r", "$f"),
			pick(g, "1", "2", "$v", "$v", "$w", "$x", "in(1,2)", "in(2, 3)", "$w=in(1,3)", "$$v=not(in(a))", "$v=5", "nosuch(1)"),
		}
	}
	return specs
}

// specsFor makes specs that some of the lines fit, in another order, and
// sometimes breaks one.
func (g lineGenerator) specsFor(lines []line) []line {
	var specs []line
	for _, n := range g.Perm(len(lines)) {
		if len(specs) == 6 {
			break
		}
		spec := lines[n]
		for i, v := range spec {
			if strings.HasPrefix(v, "$") {
				continue
			}
			spec[i] = pick(g, v, v, "$"+v, "$"+v, "$$"+v, "$"+v+"=in("+v+",zz)", "in("+v+", 2)", "not(in(b))")
		}
		if g.IntN(4) > 0 {
			spec[0], spec[2] = lines[n][0], lines[n][2]
		}
		specs = append(specs, spec)
	}
	if len(specs) == 0 || g.IntN(4) == 0 {
		return append(specs, g.specs()[0])
	}
	return specs
}
