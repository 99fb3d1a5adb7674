package match_test

import (
	"strings"
	"testing"

	"edeploy/server/internal/match"
	"edeploy/server/wire"
)

// TestNearest: which fact comes closest to the line that finds nothing, and
// why it does not fit.
func TestNearest(t *testing.T) {
	h := wire.Hardware{
		{Category: "disk", ID: "sda", Field: "size", Value: "2"},
		{Category: "disk", ID: "sdb", Field: "size", Value: "300"},
		{Category: "disk", ID: "sdb", Field: "vendor", Value: "y"},
		{Category: "cpu", ID: "logical", Field: "number", Value: int64(8)},
	}
	for specs, want := range map[string]string{
		`[('disk', '$d', 'size', 'gt(500)')]`:                                                        "sda size: '2' is not gt(500)",
		`[('disk', '$d', 'size', 'gt(100)'), ('disk', '$d', 'vendor', 'x')]`:                         "sdb vendor: 'y' is not 'x'",
		`[('disk', '$d', 'size', 'lt(5)'), ('disk', '$d', 'vendor', 'y')]`:                           "sdb vendor: 'sdb' is not $d, which is 'sda'",
		`[('disk', 'sdb', 'vendor', '$v'), ('disk', 'sdb', 'vendor', 'y')]`:                          "sdb vendor: line 1 has taken it",
		`[('cpu', 'logical', 'number', 'ge(16)')]`:                                                   "logical number: '8' is not ge(16)",
		`[('cpu', 'logical', 'number', '$n=nosuch(1)')]`:                                             "logical number: nosuch(1) can never match",
		`[('none', 'of', 'these', 'fit')]`:                                                           "",
		`[('disk', '$a', 'size', '$s'), ('disk', '$b', 'size', '$t'), ('disk', '$c', 'size', '$u')]`: "sda size: line 1 has taken it",
	} {
		s, err := match.Compile("x.specs", specs)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if n := match.NewIndex(h).Try(s).Nearest(); n != nil {
			got = n.Fact.ID + " " + n.Fact.Field + ": " + strings.Join(n.Why, ", ")
		}
		if got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", specs, got, want)
		}
	}
}
