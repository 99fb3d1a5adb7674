package fileset_test

import (
	"fmt"
	"strings"
	"testing"

	"edeploy/server/internal/cmdb"
	"edeploy/server/internal/fileset"
	"edeploy/server/internal/literal"

	"github.com/google/go-cmp/cmp"
)

func TestParseName(t *testing.T) {
	for _, tt := range []struct {
		file string
		want fileset.Name
		err  string
	}{
		{"state", fileset.Name{Kind: fileset.State}, ""},
		{"authorized_keys", fileset.Name{Kind: fileset.Keys}, ""},
		{"vm.specs", fileset.Name{Kind: fileset.Specs, Profile: "vm"}, ""},
		{"vm.configure", fileset.Name{Kind: fileset.Configure, Profile: "vm"}, ""},
		{"vm.cmdb", fileset.Name{Kind: fileset.CMDB, Profile: "vm"}, ""},
		{"vm.cmdb.orig", fileset.Name{Kind: fileset.Original, Profile: "vm"}, ""},
		{"a.b c.specs", fileset.Name{Kind: fileset.Specs, Profile: "a.b c"}, ""},
		{"state.specs", fileset.Name{Kind: fileset.Specs, Profile: "state"}, ""},
		{"", fileset.Name{}, "want state"},
		{"x", fileset.Name{}, "want state"},
		{"vm.orig", fileset.Name{}, "want state"},
		{"State", fileset.Name{}, "want state"},
		{".specs", fileset.Name{}, "empty"},
		{".x.specs", fileset.Name{}, "dot"},
		{"../x.specs", fileset.Name{}, "dot"},
		{"a/x.specs", fileset.Name{}, "slash"},
		{"a\x1b[2J.specs", fileset.Name{}, "control"},
		{"a\xff.specs", fileset.Name{}, "UTF-8"},
		{strings.Repeat("x", 201) + ".specs", fileset.Name{}, "longer"},
	} {
		got, err := fileset.ParseName(tt.file)
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%q: error %v, want %q", tt.file, err, tt.err)
		}
		if err == nil && (got != tt.want || got.String() != tt.file) {
			t.Errorf("%q: got %+v", tt.file, got)
		}
	}
}

func TestCheck(t *testing.T) {
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBTZ8Dd1m3vbGHDfzgUCjBMKgqEXxQXGbmC8SgB0EiRb an operator\n"
	for _, tt := range []struct {
		name, file, text string
		want             []string // LINE:COLUMN, with "w" for a warning
	}{
		{"good state", "state", "[('vm', 1), ('x', '*')]\n", nil},
		{"torn state", "state", "[('vm', 1),\n ('x' '*'\n", []string{"2:2"}},
		{"bad count", "state", "[('vm', 'many')]", []string{"1:9"}},
		{"bad profile names", "state", "[('../x', 1), ('.y', 2)]", []string{"0:0", "0:0"}},
		{"good specs", "vm.specs", "[('disk', '$d', 'size', 'gt(4)')]", nil},
		{"odd specs", "vm.specs", "[('disk', '$d=4', 'size', '$x=300')]", []string{"1:1w", "1:1w"}},
		{"bad helper", "vm.specs", "[\n ('disk', '$d', 'size', 'gt(x)')]", []string{"2:25"}},
		{"good cmdb", "vm.cmdb", "[{'ip': '10.0.0.1'}]", nil},
		{"generate", "vm.cmdb", "generate({'ip': '10.0.0.1-9'})", nil},
		{"bad cmdb", "vm.cmdb", "[{'ip': '10.0.0.1'},\n {'ip': 10.0.0.2}]", []string{"2:9"}},
		{"huge cmdb", "vm.cmdb", "generate({'ip': '10.0-255.0-255.0-255'})", []string{"1:10"}},
		{"any configure", "vm.configure", "#!/bin/sh\n[('\n", nil},
		{"binary configure", "vm.configure", "a\nbä\xff", []string{"2:3"}},
		{"zero byte", "vm.configure", "a\x00", []string{"1:2"}},
		{"keys", "authorized_keys", "# us\n\n" + key + key, nil},
		{"half a key", "authorized_keys", key + "ssh-ed25519 AAAAC3Nz\n", []string{"2:1"}},
		{"a private key", "authorized_keys", "-----BEGIN OPENSSH PRIVATE KEY-----\n", []string{"1:1"}},
		{"a key with options", "authorized_keys", "\n" + `from="10.0.0.1" ` + key, []string{"2:1"}},
		{"binary specs", "vm.specs", "\xff", []string{"1:1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			name, err := fileset.ParseName(tt.file)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range fileset.Check(name, tt.text) {
				if p.File != tt.file || !strings.HasPrefix(p.Text, tt.file+":") {
					t.Errorf("problem does not name the file: %+v", p)
				}
				place := fmt.Sprintf("%d:%d", p.Line, p.Column)
				if p.Warning {
					place = "1:1w" // warnings have their place in the text
				}
				got = append(got, place)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// hosts has three entries; ranges make them.
const hosts = "generate({'gw': '10.0.0.254', 'host': 'h1-3', 'ip': '10.0.0.1-3'})"

// holding is machine n as it took entry n of hosts.
func holding(t *testing.T, n int) fileset.Holder {
	t.Helper()
	entry := fmt.Sprintf("'gw': '10.0.0.254', 'host': 'h%d', 'ip': '10.0.0.%d'", n, n)
	h, err := fileset.NewHolder(fmt.Sprint("m", n), "{"+entry+"}", fmt.Sprintf("{%s, 'eth': 'eth0', 'mac': '02:0%d', 'used': 1}", entry, n))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestAdopt(t *testing.T) {
	const (
		held2   = "{'gw': '10.0.0.254', 'host': 'h2', 'ip': '10.0.0.2', 'eth': 'eth0', 'mac': '02:02', 'used': 1}"
		edited2 = "{'gw': '10.0.0.9', 'host': 'h2', 'ip': '10.0.0.2', 'eth': 'eth0', 'mac': '02:02', 'used': 1}"
	)
	for _, tt := range []struct {
		name, text  string
		moved, lost []string
		taken       []string // addresses of used entries
		same        bool     // the text stays as it was given
	}{
		{"generate again", hosts, []string{"m2", "m3"}, nil, []string{"10.0.0.2", "10.0.0.3"}, false},
		{"all get another gateway", strings.ReplaceAll(hosts, ".254", ".9"), []string{"m2", "m3"}, nil, []string{"10.0.0.2", "10.0.0.3"}, false},
		{"all get a new key", strings.Replace(hosts, "'gw'", "'dns': '9.9.9.9', 'gw'", 1), []string{"m2", "m3"}, nil, []string{"10.0.0.2", "10.0.0.3"}, false},
		{"more entries", strings.ReplaceAll(hosts, "1-3", "1-30"), []string{"m2", "m3"}, nil, []string{"10.0.0.2", "10.0.0.3"}, false},
		{"fewer entries", strings.ReplaceAll(hosts, "1-3", "1-2"), []string{"m2"}, []string{"m3"}, []string{"10.0.0.2"}, false},
		{"other addresses", strings.ReplaceAll(hosts, "10.0.0.", "10.7.0."), nil, []string{"m2", "m3"}, nil, true},
		{"as the server had it", "[" + held2 + ", {'ip': '10.0.0.3', 'host': 'h3'}]", []string{"m3"}, nil, []string{"10.0.0.2", "10.0.0.3"}, false},
		{"edited", "[" + edited2 + "]", nil, []string{"m3"}, []string{"10.0.0.2"}, true},
		{"single entry", "[{'gw': '10.0.0.254', 'host': 'h2', 'ip': '10.0.0.2'}]", []string{"m2"}, []string{"m3"}, []string{"10.0.0.2"}, false},
		{"no entry", "[]", nil, []string{"m2", "m3"}, nil, true},
		{"comments", "[ # ours\n {'host': 'h3', 'ip': '10.0.0.3'}, # third\n {'host': 'h2', 'ip': '10.0.0.2'},\n]\n", []string{"m2", "m3"}, nil, []string{"10.0.0.3", "10.0.0.2"}, false},
		{"entry of somebody else", "[{'host': 'h2', 'ip': '10.0.0.2', 'used': 1}, {'host': 'h3', 'ip': '10.0.0.3'}]", []string{"m3"}, []string{"m2"}, []string{"10.0.0.2", "10.0.0.3"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := parse(t, tt.text)
			got, err := fileset.Adopt(f, []fileset.Holder{holding(t, 2), holding(t, 3)})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([][]string{tt.moved, tt.lost}, [][]string{ids(got.Moved), ids(got.Lost)}); diff != "" {
				t.Errorf("moved and lost (-want +got):\n%s", diff)
			}
			after := parse(t, got.Text)
			var taken []string
			for i := range after.Len() {
				if ip, _ := after.Entry(i).Get("ip"); after.Used(i) {
					taken = append(taken, fmt.Sprint(ip))
				}
			}
			if diff := cmp.Diff(tt.taken, taken); diff != "" {
				t.Errorf("taken (-want +got):\n%s", diff)
			}
			if (got.Text == tt.text) != tt.same || strings.Count(got.Text, "#") != strings.Count(tt.text, "#") {
				t.Errorf("text is now:\n%s", got.Text)
			}
			again, err := fileset.Adopt(after, got.Moved)
			if err != nil || again.Text != got.Text || len(again.Moved)+len(again.Lost) > 0 {
				t.Errorf("a second time: %+v, %v", again, err)
			}
			for _, h := range got.Moved {
				if freed, ok := after.Free(h.Before, h.After); !ok || strings.Contains(freed.Text(), fmt.Sprint("02:0", h.ID[1:])) {
					t.Errorf("machine %s cannot give its entry back: %v", h.ID, ok)
				}
			}
		})
	}
}

// TestAdoptMany: thousands of machines do not hold the server up.
func TestAdoptMany(t *testing.T) {
	text := "generate({'host': 'h00001-20000', 'ip': '10.1.0-99.0-199'})"
	f := parse(t, text)
	var holders []fileset.Holder
	for i := range 5000 {
		before := f.Entry(3 * i)
		after := before.Clone()
		after.Set("mac", fmt.Sprint(i))
		after.Set("used", int64(1))
		holders = append(holders, fileset.Holder{ID: fmt.Sprint(i), Before: before, After: after})
	}
	got, err := fileset.Adopt(f, holders)
	if err != nil || len(got.Moved) != len(holders) {
		t.Fatalf("%d moved, %v", len(got.Moved), err)
	}
	if n := strings.Count(got.Text, "'used': 1"); n != len(holders) {
		t.Errorf("%d entries are used", n)
	}
}

func parse(t *testing.T, text string) *cmdb.File {
	t.Helper()
	f, err := cmdb.Parse("vm.cmdb", text)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func ids(holders []fileset.Holder) []string {
	var all []string
	for _, h := range holders {
		all = append(all, h.ID)
	}
	return all
}

func TestNewHolder(t *testing.T) {
	for _, text := range []string{"", "[", "[1]", "1"} {
		if _, err := fileset.NewHolder("m", text, "{}"); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
	h, err := fileset.NewHolder("m", "{}", "{'a': 1}")
	if v, _ := h.After.Get("a"); err != nil || !literal.Equal(v, int64(1)) {
		t.Errorf("got %v, %v", v, err)
	}
}
