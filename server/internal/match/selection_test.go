package match_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edeploy/server/internal/match"
	"edeploy/server/wire"
)

// rack are the disks of a server, as detected: two equal SSDs, a larger one, a
// hard disk, a stick, and what a RAID controller says of a disk behind it.
var rack = [][]string{ // name, size, rotational, removable, transport, model, serial
	{"sda", "16", "0", "1", "usb", "STICK", "U1"},
	{"sdb", "240", "0", "0", "sata", "SSD 240", "B"},
	{"sdc", "240", "0", "0", "sata", "SSD 240", "A"},
	{"sdd", "480", "0", "0", "sata", "SSD 480", "D"},
	{"sde", "4000", "1", "0", "sas", "HDD", "E"},
}

func facts(rows [][]string) wire.Hardware {
	h := wire.Hardware{{Category: "disk", ID: "logical", Field: "count", Value: fmt.Sprint(len(rows))},
		{Category: "disk", ID: "1I:1:1", Field: "size", Value: "1"}}
	for _, row := range rows {
		for i, field := range []string{"size", "rotational", "removable", "transport", "model", "serial"} {
			h = append(h, wire.Fact{Category: "disk", ID: row[0], Field: field, Value: row[i+1]})
		}
	}
	return h
}

func TestSelection(t *testing.T) {
	const sdb, sdc = "sdb (SSD 240, serial B, 240 GB, sata)", "sdc (SSD 240, serial A, 240 GB, sata)"
	const sdd, sde, stick = "sdd (SSD 480, serial D, 480 GB, sata)", "sde (HDD, serial E, 4000 GB, sas)", "sda (STICK, serial U1, 16 GB, usb, removable)"
	const all = "there are: " + stick + ", " + sdb + ", " + sdc + ", " + sdd + ", " + sde
	for _, tt := range []struct {
		name, comment, specs string
		want                 match.Bindings
		why                  string
	}{
		{name: "the two smallest SSDs", comment: "$a, $b, rotational=0, order=size", want: match.Bindings{"a": "sdc", "b": "sdb"}},
		{name: "the largest disk", comment: "$a, order=-size", want: match.Bindings{"a": "sde"}},
		{name: "all that fit, and no order", comment: "$a,$b, size=range(200, 300)", want: match.Bindings{"a": "sdc", "b": "sdb"}},
		{name: "helpers and text with blanks", comment: "$a, model=SSD 480, transport=in(sas, sata)", want: match.Bindings{"a": "sdd"}},
		{name: "USB by its transport", comment: "$a, transport=usb", want: match.Bindings{"a": "sda"}},
		{name: "removable by its serial number", comment: "$a, serial='U1'", want: match.Bindings{"a": "sda"}},
		{name: "no stick because it is not another disk", comment: "$a, serial=not(in(A, B)), order=size", want: match.Bindings{"a": "sdd"}},
		{name: "nor because it is not on SATA", comment: "$a, transport=not(in(sata))", want: match.Bindings{"a": "sde"}},
		{name: "removable ones", comment: "$a, removable=1", want: match.Bindings{"a": "sda"}},
		{name: "specs go on with it", comment: "$a, order=-size", specs: "('disk', '$a', 'size', '$size'), ('disk', '$a', 'rotational', '1')", want: match.Bindings{"a": "sde", "size": "4000"}},
		{name: "specs that contradict it", comment: "$a, order=-size", specs: "('disk', '$a', 'rotational', '0')", why: "line 2 finds nothing"},
		{name: "strict", comment: "$$a, serial=B", want: match.Bindings{"a": "sdb"}},
		{name: "equal in the order", comment: "$a, rotational=0, order=size",
			why: "1 disk is wanted by order=size, and nothing says which of these 2 is one of them: " + sdc + ", " + sdb},
		{name: "more than wanted", comment: "$a, $b, rotational=0",
			why: "2 disks are wanted, and 3 fit: say more, or order=size or order=-size: " + sdc + ", " + sdb + ", " + sdd},
		{name: "fewer than wanted", comment: "$a, $b, transport=sas", why: "2 disks are wanted, and only 1 fit: " + sde + "; " + all},
		{name: "none", comment: "$a, size=gt(5000)", why: "no disk fits; " + all},
		{name: "two comments never give one disk twice", comment: "$a, rotational=1\n# edeploy: disks $b, size=gt(4000)", specs: "", why: "no disk fits; " + all[:len(all)-1] + ", given to another variable)"},
		{name: "nor the same one by order", comment: "$a, order=-size\n# edeploy: disks $b, order=-size", want: match.Bindings{"a": "sde", "b": "sdd"}},
		{name: "a field that none has", comment: "$a, rotatonal=0", why: "no disk has the fact rotatonal"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			specs, err := match.Compile("x.specs", "# edeploy: disks "+tt.comment+"\n["+tt.specs+"]\n")
			if err != nil {
				t.Fatal(err)
			}
			trial := match.NewIndex(facts(rack)).Try(specs)
			got := trial.Result()
			if why := whyNot(got); !strings.Contains(why, tt.why) || (tt.why == "") != got.OK {
				t.Errorf("it says %q, want %q", why, tt.why)
			}
			if diff := cmp.Diff(tt.want, got.Bindings); tt.want != nil && diff != "" {
				t.Error(diff)
			}
			told := trial.Steps(10)
			first, _, _ := strings.Cut(tt.comment[1:], ",")
			switch last := told[len(told)-1]; {
			case told[0].Line != 1, told[0].Why == "" && told[0].Bound[first] == nil:
				t.Errorf("first step %+v", told[0])
			case !got.OK && last.Why != got.Failure.Why:
				t.Errorf("last step %+v", last)
			}
			if kept := trial.Kept().Result(); !cmp.Equal(kept, got) {
				t.Errorf("kept: %s", cmp.Diff(got, kept))
			}
		})
	}
}

func whyNot(r match.Result) string {
	if r.OK {
		return ""
	}
	if r.Failure.Why != "" {
		return r.Failure.Why
	}
	return fmt.Sprintf("line %d finds nothing", r.Failure.Line)
}

// TestSelectionIgnoresNames: whatever the kernel calls the disks, and in whatever
// order it finds them, the same ones are chosen.
func TestSelectionIgnoresNames(t *testing.T) {
	specs, err := match.Compile("x.specs", "# edeploy: disks $a, $b, rotational=0, order=size\n[('disk', '$a', 'serial', '$first'), ('disk', '$b', 'serial', '$second')]")
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 0))
		rows := make([][]string, len(rack))
		for i, j := range r.Perm(len(rack)) {
			rows[i] = append([]string{"sd" + string(rune('a'+i))}, rack[j][1:]...)
		}
		h := facts(rows)
		r.Shuffle(len(h), func(i, j int) { h[i], h[j] = h[j], h[i] })
		got := match.Match(h, specs)
		if !got.OK || got.Bindings["first"] != "A" || got.Bindings["second"] != "B" {
			t.Fatalf("seed %d: %v of %v, %+v", seed, got.Bindings, h, got.Failure)
		}
	}
}

func TestSelectionMistakes(t *testing.T) {
	for comment, want := range map[string]string{
		"order=size":                         "disks names no $variable that gets a disk",
		"$a, rotational":                     "'rotational' is neither a $variable nor a condition such as rotational=0",
		"$a, =0":                             "'=0' is neither a $variable",
		"$a, order=path":                     "want order=size or order=-size, once",
		"$a, order=size, order=size":         "want order=size or order=-size, once",
		"$a, size=gt(x)":                     "gt wants a number",
		"$a=gt(4)":                           "'$a=gt(4)' is neither a $variable",
		"$a, $a":                             "$a gets a disk already",
		"$a, size=1\n# edeploy: disks $b,$a": "$a gets a disk already",
		"":                                   "'' is neither a $variable",
	} {
		_, err := match.Compile("x.specs", "# edeploy: disks "+comment+"\n[]")
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "x.specs:") {
			t.Errorf("%q: %v, want %s", comment, err, want)
		}
	}
}
