package allocation

import (
	"testing"

	"edeploy/server/internal/literal"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
	"go.starlark.net/starlark"
	"go.starlark.net/syntax"
)

// TestVariables: the agent, which runs Starlark, reads back the variables.
func TestVariables(t *testing.T) {
	vars := literal.NewDict("disk", "vda", "used", int64(1), "dns", literal.Tuple{"10.7.0.2"}, "note", "it's\n\"é\" \\ \x7f\U0001f600",
		"long", "a long text of more than eighty characters, which pprint would have broken into pieces", "none", nil, "big", 1e16)
	c := configuration("vm", vars, "run('true')\n")
	if _, ok := vars.Get("edeploy-profile"); ok {
		t.Errorf("the given variables were changed")
	}
	parsed, err := wire.ParseConfiguration(c.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c, parsed); diff != "" {
		t.Errorf("after the wire (-want +got):\n%s", diff)
	}
	v, err := starlark.EvalOptions(&syntax.FileOptions{}, &starlark.Thread{}, "var", parsed.Var, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, parsed.Var)
	}
	const want = `{"big": 1e+16, "disk": "vda", "dns": ("10.7.0.2",), "edeploy-profile": "vm", "long": "a long text of more than eighty characters, which pprint would have broken into pieces", "none": None, "note": "it's\n\"é\" \\ \x7f😀", "used": 1}`
	if v.String() != want {
		t.Errorf("got  %s\nwant %s", v, want)
	}
}
