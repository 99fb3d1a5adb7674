package literal_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"edeploy/integration/needs"
	"edeploy/server/internal/literal"

	"github.com/google/go-cmp/cmp"
)

// printer is a Python program: it reads a JSON list of literals and answers,
// for each, what pprint makes of it.
const printer = `
import ast, json, pprint, sys
out = []
for text in json.load(sys.stdin):
    try:
        out.append(pprint.pformat(ast.literal_eval(text.strip())) + "\n")
    except Exception as e:
        out.append("error %s" % e)
json.dump(out, sys.stdout)
`

// pythonPrints asks Python to read and pretty-print texts.
func pythonPrints(t *testing.T, texts []string) []string {
	t.Helper()
	in, err := json.Marshal(texts)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(needs.Program(t, "python3"), "-c", printer)
	cmd.Stdin = bytes.NewReader(in)
	cmd.Stderr = t.Output()
	answer, err := cmd.Output()
	if err != nil {
		t.Fatalf("python3: %v", err)
	}
	var out []string
	if err := json.Unmarshal(answer, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestFormatEqualsPprint(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(needs.Seed(t), 1))}
	var values []literal.Value
	var texts []string
	for range 1500 {
		v := g.value(4)
		values = append(values, v)
		texts = append(texts, literal.Format(v))
	}
	for i, want := range pythonPrints(t, texts) {
		if texts[i] != want {
			t.Fatalf("Format differs from pprint (-want +got):\n%s", cmp.Diff(want, texts[i]))
		}
		doc, err := literal.Parse("f", texts[i])
		if err != nil {
			t.Fatalf("Parse(Format(v)): %v\n%s", err, texts[i])
		}
		if got := literal.Repr(doc.Node.Value); got != literal.Repr(values[i]) {
			t.Fatalf("Parse(Format(v)) = %s, want %s", got, literal.Repr(values[i]))
		}
	}
}

// TestParseEqualsPython reads what people and Python write in both dialects.
func TestParseEqualsPython(t *testing.T) {
	texts := []string{
		`[('hp', 4), ('vm', '*')]`, "\n# c\n[ # x\n ('a',\n 1,), ]\n# end", `()`, `(1,)`, `(1)`, `((1))`, `[[]]`, `{}`,
		`{'a': 1, "b": (2,), 3: [None, True, False],}`, `{'a': 1, 'a': 2}`, `{1: 'a', True: 'b'}`, `{(1, 'x'): 2}`,
		`'a' 'b' "c"`, "('a'\n 'b')", `u'x' b'' r'\d' rb''`, `'''a'b''c'''`, `"""x
y"""`, `''`, `""`, `'' ''`, `'\x41\101\u00e9\U0001f600\n\t\\\'\"'`, `'\d\q'`, `r'\''`, `r'\\'`, "'a\\\nb'",
		`-1`, `+1`, `- 1`, `0`, `00`, `0x1F`, `0o17`, `0b101`, `1_000`, `1.5`, `.5`, `5.`, `1e3`, `1E-3`, `-0.0`, `1e16`, `1e15`, `1e-5`, `123456789012345678901234567890`,
		`'é'`, `'日本語 日本語'`, "'\u00a0\u2028\u200b'", `'it''s'`, `"it's"`, `'say "x"'`, `'both \' and "'`,
		`[1,2`, `[1 2]`, `'a`, `1x`, `0x`, `1__0`, `{'a'}`, `{'a' 1}`, `{[]: 1}`, `[,]`, `(,)`, `01`, `1.2.3`, `'\x4'`, `'\u12'`,
		`["a" , ]`, `[1,,2]`, `--1`, `-'a'`, `1e`, `1e+`, `0b2`, `0o8`, `1_`, `_1`, `1l`, "'a\nb'", `'\N{BULLET}'`, `'\8'`,
	}
	// Where we differ from Python 3 on purpose: Python 2's spellings, sets,
	// bytes, character names, surrogates.
	ours := map[string]string{
		`{'a'}`: "error", `u'x' b'' r'\d' rb''`: "'x\\\\d'\n", `1l`: "1\n", `'\N{BULLET}'`: "error", `--1`: "1\n",
	}
	for i, want := range pythonPrints(t, texts) {
		got := "error"
		if doc, err := literal.Parse("f", texts[i]); err == nil {
			got = literal.Format(doc.Node.Value)
		} else {
			t.Log(err)
		}
		if strings.HasPrefix(want, "error") {
			want = "error"
		}
		if special, ok := ours[texts[i]]; ok {
			want = special
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", texts[i], got, want)
		}
	}
}

// generator makes random values, with a liking for lengths around the width.
type generator struct{ *rand.Rand }

func (g generator) value(depth int) literal.Value {
	kind := g.IntN(12)
	if depth == 0 {
		kind = g.IntN(7)
	}
	switch kind {
	case 0:
		return [...]literal.Value{nil, true, false}[g.IntN(3)]
	case 1:
		return g.Int64N(1<<g.IntN(62)+1) - 5
	case 2:
		return g.float()
	case 3:
		n, _ := new(big.Int).SetString(fmt.Sprintf("-9%0*d", 20+g.IntN(70), g.Int64()), 10)
		return n
	case 4, 5, 6:
		return g.text()
	case 7, 8:
		return literal.List(g.items(depth))
	case 9:
		return literal.Tuple(g.items(depth))
	}
	d := new(literal.Dict)
	for range g.IntN(6) {
		d.Set(g.key(), g.value(depth-1))
	}
	return d
}

func (g generator) float() float64 {
	for {
		x := math.Float64frombits(g.Uint64())
		if g.IntN(2) == 0 {
			x = float64(g.IntN(100000)) / 8
		}
		if !math.IsNaN(x) && !math.IsInf(x, 0) {
			return x
		}
	}
}

func (g generator) items(depth int) []literal.Value {
	items := make([]literal.Value, g.IntN(6))
	for i := range items {
		items[i] = g.value(depth - 1)
	}
	return items
}

func (g generator) key() literal.Value {
	if g.IntN(20) == 0 {
		return int64(g.IntN(5))
	}
	return g.text()
}

func (g generator) text() string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789.:-/$"
	odd := []string{" ", "  ", "\n", "\r\n", "\r", "\t", "'", `"`, "\\", "\x00", "\x7f", "\x1d", "é", "日", "\u00a0", "\u2028", "\u200b", "\U0001f600", "\ufeff", "\u0085", "\x1f"}
	var b strings.Builder
	for n := g.IntN(1 << g.IntN(8)); n > 0; n-- {
		switch {
		case g.IntN(6) == 0:
			b.WriteByte(' ')
		case g.IntN(15) == 0:
			b.WriteString(odd[g.IntN(len(odd))])
		default:
			b.WriteByte(letters[g.IntN(len(letters))])
		}
	}
	return b.String()
}
