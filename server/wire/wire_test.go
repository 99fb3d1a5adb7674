package wire_test

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"edeploy/server/wire"
)

func TestBootArgs(t *testing.T) {
	set := func(change func(*wire.BootArgs)) wire.BootArgs {
		a := wire.DefaultBootArgs()
		change(&a)
		return a
	}
	for _, test := range []struct {
		name, cmdline string
		want          wire.BootArgs
		text          string // what String writes
	}{
		{"nothing", "quiet root=/dev/sda1", wire.DefaultBootArgs(), "SERV=10.0.3.1"},
		{"seed's entry", "vmlinuz SERV=10.0.2.2 DEBUG=1 VERBOSE=1 RSERV_PORT=1515 HTTP_PORT=9000 HTTP_PATH=/cgi-bin/edeploy/",
			set(func(a *wire.BootArgs) {
				a.Serv, a.Debug, a.Verbose, a.RServPort, a.HTTPPort, a.HTTPPath = "10.0.2.2", true, true, 1515, 9000, "/cgi-bin/edeploy/"
				a.OnFailure = "console"
			}), "SERV=10.0.2.2 HTTP_PORT=9000 HTTP_PATH=/cgi-bin/edeploy/ RSERV_PORT=1515 ONFAILURE=console DEBUG=1 VERBOSE=1"},
		{"last one wins", "SERV=a SERV=b", set(func(a *wire.BootArgs) { a.Serv = "b" }), "SERV=b"},
		{"case matters", "serv=a XSERV=b", wire.DefaultBootArgs(), "SERV=10.0.3.1"},
		{"kept block", "SERV=a |  console=tty0   console=ttyS0,115200 | ONSUCCESS=kexec",
			set(func(a *wire.BootArgs) {
				a.Serv, a.Kept, a.OnSuccess = "a", "console=tty0 console=ttyS0,115200", "kexec"
			}), "SERV=a ONSUCCESS=kexec | console=tty0 console=ttyS0,115200 |"},
		{"network", "BOOTIF=01-02-00-00-00-00-01 IP=eth0:10.9.0.5/24+10.9.0.1@12,other:none LLDP_SECONDS=40",
			set(func(a *wire.BootArgs) {
				a.BootIF, a.IP, a.LLDPSeconds = "01-02-00-00-00-00-01", "eth0:10.9.0.5/24+10.9.0.1@12,other:none", 40
			}),
			"SERV=10.0.3.1 IP=eth0:10.9.0.5/24+10.9.0.1@12,other:none BOOTIF=01-02-00-00-00-00-01 LLDP_SECONDS=40"},
		{"one bar only", "SERV=a | x=1", set(func(a *wire.BootArgs) { a.Serv, a.Kept = "a", "x=1" }), "SERV=a | x=1 |"},
		{"add-ons", "ADDONS=megacli/8.07.14,python3", set(func(a *wire.BootArgs) { a.Addons = "megacli/8.07.14,python3" }),
			"SERV=10.0.3.1 ADDONS=megacli/8.07.14,python3"},
		{"log", "UPLOAD_LOG=yes NOCONSOLE=0", set(func(a *wire.BootArgs) { a.UploadLog, a.NoConsole = false, true }),
			"SERV=10.0.3.1 UPLOAD_LOG=0 NOCONSOLE=1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := wire.ParseBootArgs(test.cmdline)
			if err != nil {
				t.Fatal(err)
			}
			if got != test.want {
				t.Errorf("ParseBootArgs(%q)\n got %+v\nwant %+v", test.cmdline, got, test.want)
			}
			if got.String() != test.text {
				t.Errorf("String = %q, want %q", got.String(), test.text)
			}
			if again, err := wire.ParseBootArgs(got.String()); err != nil || again != got {
				t.Errorf("round trip of %q: %+v, %v", got.String(), again, err)
			}
		})
	}
}

func TestBootArgsWith(t *testing.T) {
	a, err := wire.DefaultBootArgs().With(map[string]string{"HSERV": "10.0.3.1", "ROLE": "db", "ONSUCCESS": "halt"})
	want := wire.DefaultBootArgs()
	want.HServ, want.OnSuccess = "10.0.3.1", "halt"
	if err != nil || a != want {
		t.Errorf("%+v, %v, want %+v", a, err, want)
	}
	if _, err := a.With(map[string]string{"HSERV_PORT": "web"}); err == nil || !strings.Contains(err.Error(), "HSERV_PORT=web") {
		t.Errorf("error %v, want one that names HSERV_PORT=web", err)
	}
}

func TestBadBootArgsKeepTheDefault(t *testing.T) {
	a, err := wire.ParseBootArgs("HTTP_PORT=web RSERV_PORT=70000 SERV=x ADDONS=python3,../x")
	for _, want := range []string{"HTTP_PORT=web", "RSERV_PORT=70000", `ADDONS=python3,../x: add-on "../x"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
	if a.HTTPPort != 80 || a.RServPort != 873 || a.Serv != "x" || a.Addons != "" {
		t.Errorf("arguments beside the bad ones: %+v", a)
	}
}

func TestCheckAddon(t *testing.T) {
	for name, want := range map[string]bool{
		"python3": true, "hp-tools": true, "ssacli/6.15-11.0": true,
		"": false, "Python": false, "a.b": false, "../x": false, "a/": false, "/a": false, "a/b/c": false, "a/..": false, "a%2f": false, strings.Repeat("a", 65): false,
	} {
		if err := wire.CheckAddon(name); (err == nil) != want {
			t.Errorf("%q: %v, want valid = %v", name, err, want)
		}
	}
}

func TestURLs(t *testing.T) {
	a := wire.DefaultBootArgs()
	a.Serv, a.HServ = "10.0.3.1", "web"
	ref := wire.ImageRef{Role: "base", Version: "D12-F.1.0.0"}
	other := wire.BootArgs{Serv: "10.0.3.1", HTTPPort: 9000, RServ: "rack2", RPath: "install"}
	for _, test := range []struct{ got, want string }{
		{other.AddonURL("python3"), "http://10.0.3.1:9000/boot/file/addons/python3.edeploy"},
		{other.AddonURL("megacli/8.07.14"), "http://rack2:9000/install/8.07.14/megacli-8.07.14.edeploy"},
		{a.AddonURL("megacli/8.07.14"), "http://web:80/install/8.07.14/megacli-8.07.14.edeploy"},
		{a.UploadURL(), "http://10.0.3.1:80/cgi-bin/upload.py"},
		{a.ReportURL(), "http://10.0.3.1:80/api/v1/reports"},
		{a.RsyncURL(ref.Tree()), "rsync://10.0.3.1:873/install/D12-F.1.0.0/base"},
		{a.RsyncURL(ref.Manifest()), "rsync://10.0.3.1:873/install/D12-F.1.0.0/base-D12-F.1.0.0.mtree"},
		{a.ArchiveURL(ref.Archive()), "http://web:80/install/D12-F.1.0.0/base-D12-F.1.0.0.edeploy"},
	} {
		if test.got != test.want {
			t.Errorf("got %s, want %s", test.got, test.want)
		}
	}
}

func TestHardware(t *testing.T) {
	text := `[["disk","sda","size","480"],
 ["cpu","logical","number",16],
 ["cpu","x","mhz",2.5],
 ["a","b","c",null],
 ["s","p","name","R\u00e4ck \ud83d\udda5"]]
`
	h, err := wire.DecodeHardware(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	want := wire.Hardware{{"disk", "sda", "size", "480"}, {"cpu", "logical", "number", int64(16)}, {"cpu", "x", "mhz", 2.5},
		{"a", "b", "c", nil}, {"s", "p", "name", "Räck 🖥"}}
	if !reflect.DeepEqual(h, want) {
		t.Errorf("decoded %v, want %v", h, want)
	}
	var out bytes.Buffer
	if err := wire.EncodeHardware(&out, h); err != nil {
		t.Fatal(err)
	}
	if out.String() != text {
		t.Errorf("encoded\n%s\nwant\n%s", out.String(), text)
	}
}

func TestBadHardware(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{``, "want a JSON array"},
		{`{}`, "want a JSON array"},
		{`[["a","b","c"]]`, "item 1: fact [\"a\",\"b\",\"c\"]: has 3 values, want 4"},
		{`[["a","b","c","d"],["a","b",{},"d"]]`, "item 2"},
		{`[["a","b","c","d"]`, "ends after item 1 of an unfinished list"},
		{`[["a","b","c","d"]] x`, "text after the end"},
		{`[["a","b","c",1e999]]`, "out of range"},
		{`[` + strings.Repeat("[", 20000), "item 1"},
	} {
		_, err := wire.DecodeHardware(strings.NewReader(test.text))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("DecodeHardware(%.60q) = %v, want an error with %q", test.text, err, test.want)
		}
	}
	big := `[["a","b","c","` + strings.Repeat("x", wire.MaxHardwareBytes) + `"]]`
	if _, err := wire.DecodeHardware(strings.NewReader(big)); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("an oversized description: %v", err)
	}
}

func FuzzHardware(f *testing.F) {
	f.Add(`[["disk","sda","size","480"]]`)
	f.Fuzz(func(t *testing.T, text string) {
		h, err := wire.DecodeHardware(strings.NewReader(text))
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := wire.EncodeHardware(&out, h); err != nil {
			t.Fatal(err)
		}
		again, err := wire.DecodeHardware(&out)
		if err != nil || !reflect.DeepEqual(again, h) {
			t.Fatalf("round trip of %q: %v, %v", text, again, err)
		}
	})
}

func TestIdentity(t *testing.T) {
	h := wire.Hardware{{"network", "eth0", "serial", "02:00:00:00:00:0A"}, {"network", "ib0", "serial", "80:00:02:08:fe:80::1"},
		{"system", "product", "uuid", " ABC "}, {"system", "product", "serial", "S1"}}
	want := wire.Identity{MACs: []string{"02:00:00:00:00:0a"}, UUID: "abc", Serial: "S1"}
	if got := h.Identity(); !reflect.DeepEqual(got, want) {
		t.Errorf("identity %+v, want %+v", got, want)
	}
}

func TestConfiguration(t *testing.T) {
	c := wire.Configuration{Profile: "vm", Var: "{'a': 'b',\n 'c': 1}", Script: "#!/bin/sh -e\necho hi\n"}
	const text = "#EDEPLOY_PROFILE = vm\nvar = {'a': 'b',\n 'c': 1}\n#EDEPLOY_SCRIPT = vm.configure\n#!/bin/sh -e\necho hi\n"
	if got := c.Encode(); got != text {
		t.Errorf("encoded %q, want %q", got, text)
	}
	if got, err := wire.ParseConfiguration(text); err != nil || !reflect.DeepEqual(got, c) {
		t.Errorf("parsed %+v, %v; want %+v", got, err, c)
	}
	c.Disks = []wire.DiskID{"12345678", "0f1e2d3c-aaaa-bbbb-cccc-0123456789ab"}
	const disks = "#EDEPLOY_PROFILE = vm\n#EDEPLOY_DISKS = 12345678 0f1e2d3c-aaaa-bbbb-cccc-0123456789ab\nvar = {'a': 'b',\n 'c': 1}\n#EDEPLOY_SCRIPT = vm.configure\n#!/bin/sh -e\necho hi\n"
	if got := c.Encode(); got != disks {
		t.Errorf("encoded %q, want %q", got, disks)
	}
	if got, err := wire.ParseConfiguration(disks); err != nil || !reflect.DeepEqual(got, c) {
		t.Errorf("parsed %+v, %v; want %+v", got, err, c)
	}
	if got := c.Interpreter(); got != "/bin/sh -e" {
		t.Errorf("interpreter %q", got)
	}
	const original = "#!/usr/bin/env python\n#EDEPLOY_PROFILE = web\nvar = {}\nrun('x')\n"
	if got, err := wire.ParseConfiguration(original); err != nil || got.Profile != "web" || got.Script != original {
		t.Errorf("answer of an original server: %+v, %v", got, err)
	}
	if _, err := wire.ParseConfiguration("<html>"); err == nil {
		t.Error("an answer without a profile is taken")
	}
}

func TestRefusal(t *testing.T) {
	const message = "it's over:\n'; rm -rf /\nEOF"
	if got := wire.ParseRefusal(wire.Refusal(message)); got != message {
		t.Errorf("refusal says %q, want %q", got, message)
	}
	if got := wire.ParseRefusal("  bad gateway\n"); got != "bad gateway" {
		t.Errorf("a foreign body says %q", got)
	}
}

func TestImageRef(t *testing.T) {
	for _, test := range []struct {
		role, version string
		good          bool
	}{
		{"mysql", "D12-F.1.0.0", true}, {"a_b", "1~rc1+x", true},
		{"", "1", false}, {"a", "", false}, {"..", "1", false}, {"a/b", "1", false}, {"-a", "1", false}, {"a", "x y", false},
		{"a\n", "1", false}, {strings.Repeat("a", 101), "1", false},
	} {
		if _, err := wire.NewImageRef(test.role, test.version); (err == nil) != test.good {
			t.Errorf("NewImageRef(%q, %q): %v, want good = %v", test.role, test.version, err, test.good)
		}
	}
}

func TestReport(t *testing.T) {
	r := wire.Report{Protocol: wire.Protocol, Machine: wire.Identity{MACs: []string{"02:00:00:00:00:01"}}, Step: wire.StepTransfer,
		Status: wire.StatusProgress, Bytes: 5, TotalBytes: 10}
	var b bytes.Buffer
	if err := wire.EncodeReport(&b, r); err != nil {
		t.Fatal(err)
	}
	if got, err := wire.DecodeReport(&b); err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("round trip %+v, %v", got, err)
	}
	if _, err := wire.DecodeReport(strings.NewReader(`{"protocol": 99}`)); err == nil || !strings.Contains(err.Error(), "protocol 99") {
		t.Errorf("an unknown protocol: %v", err)
	}
}

func TestInstalled(t *testing.T) {
	c := wire.Installed{Image: wire.ImageRef{Role: "db", Version: "1"}, Profile: "vm", Serv: "10.0.3.1", HTTPPort: 81, RServ: "10.0.3.2", RServPort: 874, RPath: "install"}
	if got, err := wire.ParseInstalled(c.Encode()); err != nil || got != c {
		t.Errorf("round trip %+v, %v", got, err)
	}
	got, err := wire.ParseInstalled("# seed\nVERS='1'\nROLE=db\nSERV=a\nROLE=\"web\"\nX=`rm -rf /`\n")
	want := wire.Installed{Image: wire.ImageRef{Role: "web", Version: "1"}, Serv: "a", RServ: "a", HTTPPort: 80, RServPort: 873, RPath: "install"}
	if err != nil || got != want {
		t.Errorf("the original's form: %+v, %v; want %+v", got, err, want)
	}
	for _, bad := range []string{"", "ROLE=a\n", "ROLE=a\nVERS=../b\n", "ROLE=a\nVERS=1\nRSERV_PORT=x\n"} {
		if _, err := wire.ParseInstalled(bad); err == nil {
			t.Errorf("ParseInstalled(%q) is taken", bad)
		}
	}
}
