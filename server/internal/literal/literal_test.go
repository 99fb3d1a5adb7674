package literal_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"edeploy/server/internal/literal"

	"github.com/google/go-cmp/cmp"
)

func TestErrors(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"[('hp', 4)\n ('vm', '*')]", `f:2:2: want a comma or "]", got "("`},
		{"[('hp', 4),\n ('vm, '*')]", `f:2:9: want a comma or ")", got "*"`},
		{"# é\n[é]", "f:2:2: é is not a value: text needs quotes"},
		{"[1,\n2", `f:1:1: list is never closed: "]" is missing`},
		{"{'a': 1, 'b'}", `f:1:13: want ":" after the key 'b', got "}"`},
		{"'a\nb'", "f:1:1: string is never closed: ' is missing"},
		{"'''a", "f:1:1: string is never closed: ''' is missing"},
		{"['a'],", "f:1:6: comma after the end of the value"},
		{"['a'] x", "f:1:7: x after the end of the value"},
		{"__import__('os')", "f:1:1: __import__(...) is a call: only data is allowed here"},
		{"1 + 2", `f:1:3: "+" after the end of the value`},
		{"'\xff'", "f:1:2: byte 0xff is no UTF-8 text"},
		{`f'{x}'`, `f:1:1: string prefix "f" is not allowed`},
		{`'\ud800'`, "f:1:2: escape names half a character (a surrogate)"},
		{"010", "f:1:1: 010: number starts with 0: write it without, or in quotes"},
		{"1e999", "f:1:1: 1e999: number is out of range"},
		{strings.Repeat("[", 200), "f:1:101: nested deeper than 100 levels"},
		{strings.Repeat("9", 5000), "f:1:1: number has more than 4300 digits"},
	} {
		_, err := literal.Parse("f", tc.text)
		var place *literal.Error
		if !errors.As(err, &place) || err.Error() != tc.want {
			t.Errorf("%.40q:\ngot  %v\nwant %s", tc.text, err, tc.want)
		}
	}
}

// TestPython2 reads spellings that only Python 2 writes.
func TestPython2(t *testing.T) {
	doc, err := literal.Parse("f", "\ufeff{u'a': 5L, 'b': u'\\xe9', ur'c': b'caf\\xc3\\xa9', 'd': b'\\xff', 'e': -7l}\r\n")
	if err != nil {
		t.Fatal(err)
	}
	const want = `{'a': 5, 'b': 'é', 'c': 'café', 'd': 'ÿ', 'e': -7}`
	if got := literal.Repr(doc.Node.Value); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestPlaces(t *testing.T) {
	const text = "# c\n[ ('a', 1) , # x\n  ( 'b' 'c' ), (2) ]\n"
	doc, err := literal.Parse("f", text)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, n := range doc.Node.Items {
		got = append(got, text[n.Start:n.End])
	}
	if diff := cmp.Diff([]string{"('a', 1)", "( 'b' 'c' )", "(2)"}, got); diff != "" {
		t.Errorf("places (-want +got):\n%s", diff)
	}
	if line, column := doc.Position(doc.Node.Items[1].Start); line != 3 || column != 3 || !doc.Comments {
		t.Errorf("position %d:%d, comments %v, want 3:3 and true", line, column, doc.Comments)
	}
}

func TestParseCall(t *testing.T) {
	doc, err := literal.ParseCall("f", "generate ( {'a': 'b'}, prefix = '=', )", "generate")
	if err != nil {
		t.Fatal(err)
	}
	if len(doc.Call.Args) != 1 || len(doc.Call.Keywords) != 1 || doc.Call.Keywords[0].Name != "prefix" || doc.Call.Keywords[0].Node.Value != "=" {
		t.Errorf("call %+v", doc.Call)
	}
	for text, want := range map[string]string{
		"generate":               `f:1:9: want "(" after generate, got the end of the file`,
		"generate({})[0]":        `f:1:13: "[" after the end of the value`,
		"generate(generate({}))": "f:1:10: generate(...) is a call: only data is allowed here",
		"generated({})":          "f:1:1: generated(...) is a call: only data is allowed here",
	} {
		if _, err := literal.ParseCall("f", text, "generate"); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
}

func TestEqual(t *testing.T) {
	d := literal.NewDict("a", int64(1))
	for _, tc := range []struct {
		a, b literal.Value
		want bool
	}{
		{int64(1), 1.0, true}, {int64(1), true, true}, {"1", int64(1), false}, {nil, false, false}, {nil, nil, true},
		{literal.List{"a"}, literal.Tuple{"a"}, false}, {literal.List{int64(1)}, literal.List{true}, true},
		{d, literal.NewDict("a", 1.0), true}, {d, literal.NewDict("b", int64(1)), false}, {d, nil, false}, {"a", d, false},
		{1.5, 1.5, true}, {1.5, int64(1), false},
	} {
		if got := literal.Equal(tc.a, tc.b); got != tc.want {
			t.Errorf("Equal(%v, %v) = %v", tc.a, tc.b, got)
		}
	}
}

func TestSource(t *testing.T) {
	d := literal.NewDict("z", "é\u2028'\"\n\x00\U0001f600", "a", int64(1), "t", literal.Tuple{nil})
	const want = `{'a': 1,` + "\n" + ` 't': (None,),` + "\n" + ` 'z': '\u00e9\u2028\'"\n\x00\U0001f600'}`
	if got := literal.Source(d); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"[('hp', 4), ('vm', '*')]", "generate({'ip': '192.168.122.3-7'}, prefix='=')", "# c\n{u'a': (1,), b'\\xff': [None, True, -1.5e3, 0x1f, 5L]}",
		"('a' \"b\"\n'''c\nd''' r'\\d')", "'\\x41\\u00e9\\101\\\n'", "[[[[{'a': {}}]]]]", "\ufeff[1_000, .5, 5.]",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		start := time.Now()
		doc, err := literal.ParseCall("f", text, "generate")
		if time.Since(start) > 5*time.Second {
			t.Errorf("took %v", time.Since(start))
		}
		if err != nil || doc.Call != nil {
			return
		}
		written := literal.Format(doc.Node.Value)
		again, err := literal.Parse("again", written)
		if err != nil {
			t.Fatalf("own text is unreadable: %v\n%s", err, written)
		}
		if a, b := literal.Repr(doc.Node.Value), literal.Repr(again.Node.Value); a != b {
			t.Fatalf("read %s, written and read again %s", a, b)
		}
	})
}
