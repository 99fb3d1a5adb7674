package detect

import (
	"bytes"
	"os"
	"testing"
	"testing/fstest"
)

// Secure Boot's variables come from firmware and from whoever enrols keys.
func FuzzCertificates(f *testing.F) {
	text, err := os.ReadFile("testdata/dell-r730.json")
	if err != nil {
		f.Fatal(err)
	}
	rec, err := DecodeRecording(text)
	if err != nil {
		f.Fatal(err)
	}
	real := rec.Binary[allowed]
	f.Add(real)
	f.Add(real[:40])
	f.Add(bytes.Repeat([]byte{0xff}, 64))
	f.Fuzz(func(t *testing.T, data []byte) {
		found := &facts{}
		_ = signers(Source{FS: fstest.MapFS{allowed: {Data: data}}}.whole().reader(), found)
		if len(found.list) > len(data) {
			t.Errorf("%d facts of %d bytes", len(found.list), len(data))
		}
	})
}

// What programs print comes from devices and vendors.
func FuzzProgramText(f *testing.F) {
	text, err := os.ReadFile("testdata/dell-r730.json")
	if err != nil {
		f.Fatal(err)
	}
	rec, err := DecodeRecording(text)
	if err != nil {
		f.Fatal(err)
	}
	for _, p := range rec.Programs {
		f.Add(p.Text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		found := &facts{}
		smartText(found, "sda", text)
		settings(found, "eth0", text)
		hpDisk(found, "1I:1:1", text)
		arecaPart(found, "system", text)
		for _, fact := range found.list {
			if fact.Value == "" {
				t.Errorf("an empty fact %v", fact)
			}
		}
		rec := Recording{Names: []string{"sys/class", "dev/ipmi0"}, Programs: map[string]Program{}}
		for _, command := range []string{"MegaCli64 -adpCount", "MegaCli64 -EncInfo -a0", "MegaCli64 -pdinfo -PhysDrv[32:0] -a0", "MegaCli64 -LDGetNum -a0",
			"ssacli ctrl all show", "ssacli ctrl slot=0 show", "ssacli ctrl slot=0 pd all show", "cli64 sys info",
			"ipmitool channel info 0", "ipmitool lan print", "ipmitool -I open sdr"} {
			rec.Programs[command] = Program{Output: Output{Text: text}}
		}
		if _, err := rec.Source().Hardware(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	})
}
