package cmdb_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"edeploy/server/internal/cmdb"
	"edeploy/server/internal/literal"

	"github.com/google/go-cmp/cmp"
)

func parse(t testing.TB, text string) *cmdb.File {
	t.Helper()
	f, err := cmdb.Parse("x.cmdb", text)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func entries(f *cmdb.File) string {
	var lines []string
	for i := range f.Len() {
		lines = append(lines, literal.Repr(f.Entry(i)))
	}
	return strings.Join(lines, " ")
}

func TestGenerate(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"generate({})", "{}"},
		{"generate({'ip':'10.0.0.3-5','name':'h1-4'})", "{'ip': '10.0.0.3', 'name': 'h1'} {'ip': '10.0.0.4', 'name': 'h2'} {'ip': '10.0.0.5', 'name': 'h3'}"},
		{"generate({'ip':'10.0.1-2.8-9'})", "{'ip': '10.0.1.8'} {'ip': '10.0.1.9'} {'ip': '10.0.2.8'} {'ip': '10.0.2.9'}"},
		{"generate({'a':'a1-2b3-4'})", "{'a': 'a1b3-4'} {'a': 'a2b3-4'}"},
		{"generate({'a':'n1-3:7-9-x'})", "{'a': 'n1-x'} {'a': 'n2-x'} {'a': 'n3-x'} {'a': 'n7-x'} {'a': 'n8-x'} {'a': 'n9-x'}"},
		{"generate({'a':'00:11-12'})", "{'a': '00:11'} {'a': '00:12'}"},
		{"generate({'a':'x08-11'})", "{'a': 'x08'} {'a': 'x09'} {'a': 'x10'} {'a': 'x11'}"},
		{"generate({'a':'x00-02'})", "{'a': 'x00'} {'a': 'x01'} {'a': 'x02'}"},
		{"generate({'a':'x0-2'})", "{'a': 'x0'} {'a': 'x1'} {'a': 'x2'}"},
		{"generate({'a':'x1-03'})", "{'a': 'x1'} {'a': 'x2'} {'a': 'x3'}"},
		{"generate({'a':'10.7.0.0-1/24'})", "{'a': '10.7.0.0/24'} {'a': '10.7.0.1/24'}"},
		{"generate({'a':'10.7.0.1-3:5:8-9'})", "{'a': '10.7.0.1'} {'a': '10.7.0.2'} {'a': '10.7.0.3'} {'a': '10.7.0.5'} {'a': '10.7.0.8'} {'a': '10.7.0.9'}"},
		{"generate({'a':'10.7.0.1:80', 'b': 'x1-2'})", "{'a': '10.7.0.1:80', 'b': 'x1'} {'a': '10.7.0.1:80', 'b': 'x2'}"},
		{"generate({'a':'RH7.0-1.2.3'})", "{'a': 'RH7.0.2.3'} {'a': 'RH7.1.2.3'}"},
		{"generate({'a': 5})", "{'a': 5}"},
		{"generate({'a': ('x','y')})", "{'a': ('x', 'y')}"},
		{"generate({'a': []})", ""},
		{"generate({'a': ['x', 5, None]})", "{'a': 'x'} {'a': 5} {'a': None}"},
		{"generate({'net': {'ip': '10.0.0.1-9', 'gw': 'g'}, 'n': 'h1-2'})", "{'n': 'h1', 'net': {'gw': 'g', 'ip': '10.0.0.1'}} {'n': 'h2', 'net': {'gw': 'g', 'ip': '10.0.0.2'}}"},
		{"generate({'net': {'gw': 'g'}})", "{'net': {'gw': 'g'}}"},
		{"generate({'=ip': '10.0.0.1-2', 'note': 'x1-9'}, prefix='=')", "{'ip': '10.0.0.1', 'note': 'x1-9'} {'ip': '10.0.0.2', 'note': 'x1-9'}"},
		{"generate({'=n': 'a1-2', 'net': {'=ip': '10.0.0.1-9', 'k': '1-2'}}, '=')", "{'n': 'a1', 'net': {'ip': '10.0.0.1', 'k': '1-2'}} {'n': 'a2', 'net': {'ip': '10.0.0.2', 'k': '1-2'}}"},
		{"generate({'=a':'p'}, prefix='=')", "{'=a': 'p'}"},
	} {
		if got := entries(parse(t, tc.text)); got != tc.want {
			t.Errorf("%s:\ngot  %s\nwant %s", tc.text, got, tc.want)
		}
	}
	if f := parse(t, "generate({'ip': '10.1.0-255.0-255'})"); f.Len() != 65536 || literal.Repr(f.Entry(65535)) != "{'ip': '10.1.255.255'}" {
		t.Errorf("a /16 network has %d entries", f.Len())
	}
}

func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                      "x.cmdb:1:1: file is empty",
		"{'a': 1}":              "x.cmdb:1:1: want a list of dictionaries or generate({...})",
		"[{'a': 1},\n ('b',)]":  "x.cmdb:2:2: want a dictionary, got ('b',)",
		"[{'a': 1}\n {'b': 1}]": `x.cmdb:2:2: want a comma or "]", got "{"`,
		"generate()":            "x.cmdb:1:1: generate needs a dictionary",
		"generate(['a'])":       "x.cmdb:1:10: generate wants a dictionary, got ['a']",
		"generate({}, 5)":       "x.cmdb:1:14: the prefix of generate is a text, got 5",
		"generate({}, '', 1)":   "x.cmdb:1:18: generate takes a model and a prefix",
		"generate({}, size=1)":  "x.cmdb:1:19: generate has no argument size",
		"generate({'ip': '10.0-255.0-255.0-255'})":                    "x.cmdb:1:10: generate makes more than 65536 entries",
		"generate({'a': '1-99999999999999999999'})":                   "x.cmdb:1:10: key 'a': range 1-99999999999999999999 is too large",
		"generate({'a': '0-65535" + strings.Repeat("x", 5000) + "'})": "x.cmdb:1:10: generate makes 65536 entries of about 5028 bytes and 3 values, more than 16777216 bytes or 1000000 values in all",
		"open('/etc/passwd')":                                         "x.cmdb:1:1: open(...) is a call: only data is allowed here",
	} {
		if _, err := cmdb.Parse("x.cmdb", text); err == nil || err.Error() != want {
			t.Errorf("%.60s:\ngot  %v\nwant %s", text, err, want)
		}
	}
}

// TestComments: what is not changed keeps its place, order and comments.
func TestComments(t *testing.T) {
	f := parse(t, "# rack 1\n[\n  {'ip': '10.0.0.1',  # first\n   'name': 'a'},\n\n  {'name': 'b', 'ip': '10.0.0.2'},  # second\n]\n")
	a, err := f.Allocate(literal.NewDict("mac", "02:00"), nil, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	const want = "# rack 1\n[\n  {'ip': '10.0.0.1', 'mac': '02:00', 'name': 'a', 'used': 1},\n\n  {'name': 'b', 'ip': '10.0.0.2'},  # second\n]\n"
	if diff := cmp.Diff(want, a.File.Text()); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
	again, err := a.File.Allocate(literal.NewDict("mac", "02:00"), nil, false, nil)
	if err != nil || again.File != a.File {
		t.Errorf("the same machine again: %v, changed %v", err, again.File != a.File)
	}
}

func TestTakenEntries(t *testing.T) {
	f := parse(t, "[{'ip': '1'}, {'ip': '2'}]")
	vars := literal.NewDict("disk", "vda")
	first, err := f.Allocate(vars, nil, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	second, err := first.File.Allocate(vars, nil, false, func(e *literal.Dict) bool { return literal.Equal(e, first.After) })
	if err != nil || second.Index != 1 {
		t.Errorf("second machine with equal variables: entry %d, %v, want entry 1", second.Index, err)
	}
	_, err = second.File.Allocate(vars, vars, true, func(*literal.Dict) bool { return true })
	if !errors.Is(err, cmdb.ErrNoEntry) {
		t.Errorf("forced: %v, want %v", err, cmdb.ErrNoEntry)
	}
}

func TestFree(t *testing.T) {
	f := parse(t, "[{'ip': '1', 'nic': 'bond0', 'gw': 'g1'}, {'ip': '2'}]\n")
	a, err := f.Allocate(literal.NewDict("mac", "m1", "nic", "ens1"), nil, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	freed, ok := a.File.Free(a.Before, a.After)
	if !ok || entries(freed) != entries(f) {
		t.Errorf("freed %v: %s, want %s", ok, entries(freed), entries(f))
	}
	if _, ok := freed.Free(a.Before, a.After); ok {
		t.Errorf("an entry was freed twice")
	}
	edited := parse(t, strings.Replace(a.File.Text(), "'g1'", "'g2'", 1))
	freed, ok = edited.Free(a.Before, a.After)
	if want := "{'gw': 'g2', 'ip': '1', 'nic': 'bond0'} {'ip': '2'}"; !ok || entries(freed) != want {
		t.Errorf("after an edit, freed %v: %s, want %s", ok, entries(freed), want)
	}
	kept, ok := edited.Retake(a.Before, a.After, literal.NewDict("mac", "m1", "nic", "ens2"))
	if want := "{'gw': 'g2', 'ip': '1', 'mac': 'm1', 'nic': 'ens2', 'used': 1}"; !ok || literal.Repr(kept.After) != want {
		t.Errorf("retaken %v: %s, want %s", ok, literal.Repr(kept.After), want)
	}
}

// TestLongFile: changing one entry of a long file gives the same text as
// writing all of it.
func TestLongFile(t *testing.T) {
	f := parse(t, "generate({'ip': '10.7.0-7.0-255', 'name': 'host0000-2047', 'text': '"+strings.Repeat("word ", 20)+"'})")
	start := time.Now()
	for i := range 20 {
		a, err := f.Allocate(literal.NewDict("mac", fmt.Sprint(i), "list", literal.List{"a", int64(i)}), nil, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		f = a.File
	}
	t.Logf("20 allocations of 2048 entries: %v", time.Since(start))
	doc, err := literal.Parse("x.cmdb", f.Text())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(literal.Format(doc.Node.Value), f.Text()); diff != "" {
		t.Errorf("text (-want +got):\n%.2000s", diff)
	}
}

func TestIsIncluded(t *testing.T) {
	user := literal.NewDict("a", "u", "l", literal.List{"1"}, "d", literal.NewDict("x", "u"))
	for _, tc := range []struct {
		a, b *literal.Dict
		want bool
	}{
		{new(literal.Dict), user, true}, {literal.NewDict("a", "u"), user, true}, {literal.NewDict("a", "x"), user, false},
		{literal.NewDict("z", nil), user, false}, {literal.NewDict("u", "1"), literal.NewDict("u", int64(1)), false},
	} {
		if got := cmdb.IsIncluded(tc.a, tc.b); got != tc.want {
			t.Errorf("IsIncluded(%s, %s) = %v", literal.Repr(tc.a), literal.Repr(tc.b), got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"generate({'ip': '192.168.122.3-7', 'hostname': 'host03-07', 'gateway': '192.168.122.1', 'netmask': '255.255.255.0'})",
		"generate({'=a': ['x', 1], 'b': {'=c': '1-2:5-3'}}, prefix='=')", "[{'ip': '1', 'used': 1}, # c\n {}]",
		"generate({'a': '1-2.3-4:5.6.7', 'b': (1,), 'c': []})",
	} {
		f.Add(text, "mac", "02:00")
	}
	f.Fuzz(func(t *testing.T, text, key, v string) {
		start := time.Now()
		file, err := cmdb.Parse("x.cmdb", text)
		if err != nil {
			return
		}
		key, v = strings.ToValidUTF8(key, "?"), strings.ToValidUTF8(v, "?")
		vars := literal.NewDict(key, v)
		a, err := file.Allocate(vars, nil, false, nil)
		if err == nil {
			written := parse(t, a.File.Text())
			if written.Len() != file.Len() || !literal.Equal(written.Entry(a.Index), a.After) {
				t.Errorf("written %s", a.File.Text())
			}
			if freed, ok := a.File.Free(a.Before, a.After); ok && !literal.Equal(freed.Entry(a.Index), a.Before) && key != "used" {
				t.Errorf("freed %s, want %s", literal.Repr(freed.Entry(a.Index)), literal.Repr(a.Before))
			}
		}
		if time.Since(start) > 10*time.Second {
			t.Errorf("took %v", time.Since(start))
		}
	})
}

func FuzzGenerate(f *testing.F) {
	f.Add("10.1-2.3-4:7.08-11", "=n1-9", "=")
	f.Add("00:11-12", "x", "")
	f.Add("00-55555", "=", "=")
	f.Fuzz(func(t *testing.T, v, key, prefix string) {
		model := literal.NewDict(key, v, "nested", literal.NewDict(key, v), "list", literal.List{v, nil})
		if list, err := cmdb.Generate(model, prefix); err == nil && len(list) > cmdb.MaxEntries {
			t.Errorf("%d entries", len(list))
		}
	})
}
