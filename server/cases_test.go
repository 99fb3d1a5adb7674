package server_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"edeploy/server/internal/assign"
	"edeploy/server/internal/cmdb"
	"edeploy/server/internal/literal"
	"edeploy/server/internal/match"
	"edeploy/server/internal/profile"
	"edeploy/server/internal/state"
	"edeploy/server/internal/store"
	"edeploy/server/internal/sysname"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

// testCase is one case of the reference (section 14): what the original does,
// or, for a defect, what it should have done.
type testCase struct {
	ID, Op, Class, Note, Better string
	In, Out                     json.RawMessage
}

// better are the answers to the defect cases, as their field "better" asks,
// in the form of the field "out".
var better = map[string]string{
	// network(10.44.0.1/16): the host bits are masked.
	"M08": `{"result": ["network", "ens1", "ipv4", "10.44.0.7"], "arr": {"n": "ens1"}, "remaining": []}`,
	// not(in(100, 450)): nested calls are parsed; 450 is in the list.
	"M12": `{"result": false, "arr": {}, "remaining": [["disk", "sdb", "size", "450"]]}`,
	// Rack Node (R7) is text.
	"M13": `{"result": ["system", "product", "name", "Rack Node (R7)"], "arr": {"what": "name"}, "remaining": []}`,
	// no rejected value is left behind.
	"M15": `{"result": true, "arr": {"ssd": "sdb"}, "arr2": {"ssd": "sdb"}}`,
	// gt(0) takes the other line.
	"M17": `{"result": true, "arr": {}, "arr2": {}}`,
	// a single number in a group stands for itself.
	"G08": `{"entries": [{"ip": "10.7.0.1"}, {"ip": "10.7.0.2"}, {"ip": "10.7.0.6"}]}`,
	// a profile with a CMDB needs a variable.
	"C06": `{"error": {"message": "a profile with a CMDB needs at least one variable in its specs"}}`,
}

// TestCases runs the cases of testdata/edeploy-cases.json, or of the file that
// the environment variable EDEPLOY_CASES names. A defect case without an entry
// in better is run and logged.
func TestCases(t *testing.T) {
	file := os.Getenv("EDEPLOY_CASES")
	if file == "" {
		file = filepath.Join("testdata", "edeploy-cases.json")
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all struct{ Cases []testCase }
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if len(all.Cases) == 0 {
		t.Fatalf("%s holds no cases", file)
	}
	for _, c := range all.Cases {
		t.Run(c.ID, func(t *testing.T) { c.run(t) })
	}
}

// ops are the operations of the cases: arguments in, results out, as JSON.
var ops = map[string]func(t *testing.T, in json.RawMessage) any{
	"match_spec": matchSpec, "match_all": matchAll, "match_multiple": matchMultiple, "sysname": systemName,
	"generate": generate, "generate_dict": generateDict, "update_cmdb": updateCMDB,
	"find_match": findMatch, "failed_profile": failedProfile,
}

func (c testCase) run(t *testing.T) {
	op := ops[c.Op]
	if op == nil {
		t.Fatalf("unknown operation %q", c.Op)
	}
	got := roundTrip(t, op(t, c.In))
	want := c.Out
	switch c.Class {
	case "contract":
	case "defect":
		answer, ok := better[c.ID]
		if !ok {
			t.Logf("unknown defect (%s; better: %s): %v", c.Note, c.Better, got)
			return
		}
		want = json.RawMessage(answer)
	default:
		t.Fatalf("unknown class %q", c.Class)
	}
	expected := roundTrip(t, want)
	dropUnasked(expected, got, c.In)
	if diff := cmp.Diff(expected, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", c.Note, diff)
	}
}

// dropUnasked takes out of an answer what the case does not state: files that
// it does not name, and the text of an error that it does not fix.
func dropUnasked(want, got any, in json.RawMessage) {
	w, ok1 := want.(map[string]any)
	g, ok2 := got.(map[string]any)
	if !ok1 || !ok2 {
		return
	}
	if wantError, ok := w["error"].(map[string]any); ok {
		delete(wantError, "python") // our errors have no Python class
		if gotError, ok := g["error"].(map[string]any); ok && wantError["message"] == nil {
			delete(gotError, "message")
		}
	}
	wantFiles, _ := w["files"].(map[string]any)
	gotFiles, _ := g["files"].(map[string]any)
	for name := range gotFiles {
		if _, ok := wantFiles[name]; !ok {
			delete(gotFiles, name)
		}
	}
	if wantFiles == nil {
		delete(g, "files")
	}
	sameData(wantFiles, gotFiles, in)
}

// sameData lets a rewritten file keep the comments of its input, which the
// original loses, when the data is equal.
func sameData(want, got map[string]any, in json.RawMessage) {
	var input struct{ Files map[string]string }
	if json.Unmarshal(in, &input) != nil {
		return
	}
	for name, before := range input.Files {
		w, ok1 := want[name].(string)
		g, ok2 := got[name].(string)
		if !ok1 || !ok2 || !strings.Contains(before, "#") {
			continue
		}
		wantDoc, err1 := literal.Parse(name, w)
		gotDoc, err2 := literal.Parse(name, g)
		if err1 == nil && err2 == nil && literal.Equal(wantDoc.Node.Value, gotDoc.Node.Value) {
			got[name] = w
		}
	}
}

// roundTrip brings expected and real results to the same Go types.
func roundTrip(t *testing.T, v any) any {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func decode(t *testing.T, in json.RawMessage, into any) {
	t.Helper()
	if err := json.Unmarshal(in, into); err != nil {
		t.Fatal(err)
	}
}

func failure(message string) any {
	return map[string]any{"error": map[string]any{"message": message}}
}

// compile makes a specs file of the tuples of a case.
func compile(specs ...json.RawMessage) (*match.Specs, error) {
	var list literal.List
	for _, raw := range specs {
		v, err := fromJSON(raw)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return match.Compile("case.specs", literal.Format(list))
}

func matchSpec(t *testing.T, in json.RawMessage) any {
	var args struct {
		Lines wire.Hardware
		Spec  json.RawMessage
		Arr   match.Bindings
	}
	decode(t, in, &args)
	n, arr, err := matchOne(args.Lines, args.Spec, args.Arr)
	if err != nil {
		return failure(err.Error())
	}
	if n < 0 {
		return map[string]any{"result": false, "arr": arr, "remaining": args.Lines}
	}
	remaining := append(append(wire.Hardware{}, args.Lines[:n]...), args.Lines[n+1:]...)
	return map[string]any{"result": args.Lines[n], "arr": arr, "remaining": remaining}
}

// matchOne matches one spec when variables are bound already: facts and specs
// that nothing else fits bind them first. n is the number of the fact, -1: none
// fits; names are as in the search, that of $$x is "$x".
func matchOne(lines wire.Hardware, spec json.RawMessage, bound match.Bindings) (n int, after match.Bindings, err error) {
	var facts wire.Hardware
	var specs []json.RawMessage
	after = match.Bindings{}
	for name, v := range bound {
		facts = append(facts, wire.Fact{Category: "bound", ID: name, Field: "before", Value: v})
		tuple, err := json.Marshal([]string{"bound", name, "before", "$" + name})
		if err != nil {
			return 0, nil, err
		}
		specs, after[name] = append(specs, tuple), v
	}
	compiled, err := compile(append(specs, spec)...)
	if err != nil {
		return 0, nil, err
	}
	r := match.Match(append(facts, lines...), compiled)
	if !r.OK {
		return -1, after, nil
	}
	for name, v := range r.Bindings {
		if _, strict := r.Strict[name]; strict {
			name = "$" + name
		}
		after[name] = v
	}
	return r.Facts[len(facts)] - len(facts), after, nil
}

func matchAll(t *testing.T, in json.RawMessage) any {
	var args struct {
		Lines wire.Hardware
		Specs []json.RawMessage
	}
	decode(t, in, &args)
	specs, err := compile(args.Specs...)
	if err != nil {
		return failure(err.Error())
	}
	r := match.Match(args.Lines, specs)
	if !r.OK {
		return map[string]any{"result": false, "arr": r.Failure.First, "arr2": match.Bindings{}}
	}
	return map[string]any{"result": true, "arr": r.Bindings, "arr2": r.Strict}
}

func matchMultiple(t *testing.T, in json.RawMessage) any {
	var args struct {
		Lines wire.Hardware
		Spec  json.RawMessage
	}
	decode(t, in, &args)
	lists := map[string][]any{}
	for left := slices.Clone(args.Lines); ; {
		n, found, err := matchOne(left, args.Spec, nil)
		if err != nil {
			return failure(err.Error())
		}
		if n < 0 {
			return map[string]any{"result": len(left) < len(args.Lines), "arr": lists}
		}
		for name, v := range found {
			lists[name] = append(lists[name], v)
		}
		left = slices.Delete(left, n, n+1)
	}
}

func systemName(t *testing.T, in json.RawMessage) any {
	var args struct{ Items wire.Hardware }
	decode(t, in, &args)
	name, serials := sysname.Of(args.Items)
	return map[string]any{"sysname": name, "serial": serials}
}

func generate(t *testing.T, in json.RawMessage) any {
	var args struct {
		Model  json.RawMessage
		Prefix string
	}
	decode(t, in, &args)
	entries, err := cmdb.Generate(dictionary(t, args.Model), args.Prefix)
	if err != nil {
		return failure(err.Error())
	}
	list := make([]any, len(entries))
	for i, e := range entries {
		list[i] = toJSON(e)
	}
	return map[string]any{"entries": list}
}

func generateDict(t *testing.T, in json.RawMessage) any {
	var args struct {
		Model  json.RawMessage
		Prefix string
	}
	decode(t, in, &args)
	out := new(literal.Dict)
	for key, v := range dictionary(t, args.Model).All() {
		entries, err := cmdb.Generate(v.(*literal.Dict), args.Prefix)
		if err != nil {
			return failure(err.Error())
		}
		keys, err := cmdb.Generate(literal.NewDict(args.Prefix+"key", strings.TrimPrefix(key.(string), args.Prefix)), args.Prefix)
		if err != nil {
			return failure(err.Error())
		}
		for i, entry := range entries[:min(len(entries), len(keys))] {
			name, _ := keys[i].Get(args.Prefix + "key")
			if expanded, ok := keys[i].Get("key"); ok {
				name = expanded
			}
			merged, ok := out.Get(name)
			if ok {
				merged.(*literal.Dict).Update(entry)
				continue
			}
			out.Set(name, entry.Clone())
		}
	}
	return map[string]any{"dict": toJSON(out)}
}

func updateCMDB(t *testing.T, in json.RawMessage) any {
	var args struct {
		CMDB, Var, Pref json.RawMessage
		Forced          bool
	}
	decode(t, in, &args)
	entries, err := fromJSON(args.CMDB)
	if err != nil {
		t.Fatal(err)
	}
	file, err := cmdb.Parse("case.cmdb", literal.Format(entries))
	if err != nil {
		return failure(err.Error())
	}
	var preferred *literal.Dict
	if string(args.Pref) != "null" && args.Pref != nil {
		preferred = dictionary(t, args.Pref)
	}
	a, err := file.Allocate(dictionary(t, args.Var), preferred, args.Forced, nil)
	if err != nil {
		return failure(err.Error())
	}
	list := []any{}
	for i := range a.File.Len() {
		list = append(list, toJSON(a.File.Entry(i)))
	}
	return map[string]any{"cmdb": list, "var": toJSON(a.After)}
}

func findMatch(t *testing.T, in json.RawMessage) any {
	var args struct {
		Files map[string]string
		Items wire.Hardware
	}
	decode(t, in, &args)
	dir := t.TempDir()
	for name, text := range args.Files {
		writeFile(t, dir, name, text)
	}
	d, err := assign.NewFacts(args.Items).Find(profile.Open(dir, store.OpenFiles(dir)), nil)
	if err != nil {
		var refused *assign.Error
		if !errors.As(err, &refused) {
			t.Errorf("Find: error %v is a %T, want an *assign.Error", err, err)
		}
		out := failure(strings.ReplaceAll(err.Error(), dir, "{DIR}")).(map[string]any)
		out["files"] = readDir(t, dir)
		return out
	}
	for _, f := range d.Files {
		writeFile(t, dir, f.Name, f.Content())
	}
	return map[string]any{"profile": d.Profile, "var": toJSON(d.Var), "files": readDir(t, dir)}
}

func writeFile(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func readDir(t *testing.T, dir string) map[string]string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]string)
	for _, e := range list {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(text)
	}
	return files
}

func failedProfile(t *testing.T, in json.RawMessage) any {
	var args struct {
		State   json.RawMessage
		Profile string
	}
	decode(t, in, &args)
	pairs, err := fromJSON(args.State)
	if err != nil {
		t.Fatal(err)
	}
	s, err := state.Parse("state", literal.Format(pairs))
	if err != nil {
		return failure(err.Error())
	}
	s, changed := s.GiveBack(args.Profile)
	doc, err := literal.Parse("state", s.Text())
	if err != nil {
		t.Fatal(err)
	}
	return map[string]any{"changed": changed, "state": toJSON(doc.Node.Value)}
}
