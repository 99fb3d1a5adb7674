package wire_test

import (
	"strings"
	"testing"

	"edeploy/server/wire"
)

// TestMode: what the boot loader tells the agent, beside its parameters.
func TestMode(t *testing.T) {
	for action, want := range map[wire.BootAction]struct {
		mode  string
		agent bool
	}{
		wire.BootInstall: {"", true}, wire.BootRescue: {"RESCUE=1", true}, wire.BootWipe: {"WIPE=1", true},
		wire.BootLocal: {}, wire.BootHold: {}, "dance": {},
	} {
		if action.Mode() != want.mode || action.Agent() != want.agent {
			t.Errorf("%s: mode %q, agent %v, want %+v", action, action.Mode(), action.Agent(), want)
		}
	}
}

// TestWipeOrderFor: an order is for a machine that it names.
func TestWipeOrderFor(t *testing.T) {
	const one, two = "02:00:00:00:00:01", "02:00:00:00:00:02"
	for _, tt := range []struct {
		name      string
		order, is wire.Identity
		want      bool
	}{
		{"its address", wire.Identity{MACs: []string{one, two}}, wire.Identity{MACs: []string{two}}, true},
		{"another's", wire.Identity{MACs: []string{one}}, wire.Identity{MACs: []string{two}}, false},
		{"none, and the same UUID", wire.Identity{UUID: "u"}, wire.Identity{UUID: "u"}, true},
		{"none, and another serial", wire.Identity{UUID: "u", Serial: "1"}, wire.Identity{UUID: "u", Serial: "2"}, false},
		{"of a machine with addresses", wire.Identity{MACs: []string{one}, UUID: "u"}, wire.Identity{UUID: "u"}, false},
		{"of a machine without", wire.Identity{UUID: "u"}, wire.Identity{MACs: []string{one}, UUID: "u"}, false},
	} {
		if got := (wire.WipeOrder{Identity: tt.order}).For(tt.is); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func TestCheckWiped(t *testing.T) {
	good := wire.WipedDisk{Name: "sda", Model: "ACME", Bytes: 1 << 40, Method: "zeros", Seconds: 1, Samples: 1512, Held: 3}
	bad := func(change func(*wire.WipedDisk)) []wire.WipedDisk {
		d := good
		change(&d)
		return []wire.WipedDisk{good, d}
	}
	for name, tt := range map[string]struct {
		disks []wire.WipedDisk
		want  string
	}{
		"good":            {bad(func(*wire.WipedDisk) {}), ""},
		"none":            {nil, ""},
		"no name":         {bad(func(d *wire.WipedDisk) { d.Name = "" }), "want a name"},
		"negative":        {bad(func(d *wire.WipedDisk) { d.Held = -1 }), "no negative number"},
		"a long text":     {bad(func(d *wire.WipedDisk) { d.Error = strings.Repeat("x", 1000) }), "one line of 1000 bytes"},
		"too many":        {make([]wire.WipedDisk, wire.MaxDisks+1), "257 erased disks"},
		"another control": {bad(func(d *wire.WipedDisk) { d.Serial = "a\nb" }), "one line"},
	} {
		err := wire.CheckWiped(tt.disks)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

func TestParseRefusalOfAPI(t *testing.T) {
	long := "nothing is erased: " + strings.Repeat("x", 200)
	if got := wire.ParseRefusal(`{"error": "` + long + `"}`); got != long {
		t.Errorf("%q", got)
	}
}

// TestWipePolicy: the stricter one counts, and "" is yes.
func TestWipePolicy(t *testing.T) {
	for _, tt := range []struct{ a, b, want wire.WipePolicy }{
		{"", "", wire.WipeYes}, {wire.WipeAsk, "", wire.WipeAsk}, {"", wire.WipeAsk, wire.WipeAsk},
		{wire.WipeAsk, wire.WipeRefuse, wire.WipeRefuse}, {wire.WipeRefuse, wire.WipeYes, wire.WipeRefuse}, {wire.WipeYes, wire.WipeAsk, wire.WipeAsk},
	} {
		if got := tt.a.Stricter(tt.b); got != tt.want {
			t.Errorf("%q and %q: %q, want %q", tt.a, tt.b, got, tt.want)
		}
	}
	if _, err := wire.ParseWipePolicy("maybe"); err == nil {
		t.Error("maybe is a policy")
	}
}

// TestConfigurationWipe: the policy comes through; one that the agent does not
// know overwrites nothing.
func TestConfigurationWipe(t *testing.T) {
	c := wire.Configuration{Profile: "vm", Disks: []wire.DiskID{"12345678"}, Var: "{}", Script: "#EDEPLOY_WIPE = yes\n"}
	for _, tt := range []struct{ sent, want wire.WipePolicy }{{"", ""}, {wire.WipeYes, ""}, {wire.WipeAsk, wire.WipeAsk}, {wire.WipeRefuse, wire.WipeRefuse}, {"never", wire.WipeRefuse}} {
		c.Wipe = tt.sent
		got, err := wire.ParseConfiguration(c.Encode())
		if err != nil || got.Wipe != tt.want || len(got.Disks) != 1 || got.Script != c.Script {
			t.Errorf("%q: %+v, %v", tt.sent, got, err)
		}
	}
}

func TestCheckForeign(t *testing.T) {
	good := wire.ForeignDisk{Disk: "/dev/sdb (no model)", Holds: `sdb1 ntfs "Windows"`, Mark: "12345678"}
	noMark, lines := good, good
	noMark.Mark, lines.Holds = "", "a\nb"
	for _, tt := range []struct {
		disks []wire.ForeignDisk
		want  string
	}{{nil, ""}, {[]wire.ForeignDisk{good}, ""}, {[]wire.ForeignDisk{good, noMark}, "PTUUID"}, {[]wire.ForeignDisk{lines}, "one line"}} {
		if err := wire.CheckForeign(tt.disks); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.disks, err, tt.want)
		}
	}
}
