package wipe_test

import (
	"fmt"
	"strings"
	"testing"

	"edeploy/agent/internal/wipe"
)

// A drive's answer to hdparm -I, shortened.
const (
	ssd = `
/dev/sda:

ATA device, with non-removable media
	Model Number:       WDC  WDS500G2B0A
Commands/features:
	Enabled	Supported:
	   *	SMART feature set
	    	Security Mode feature set
	   *	SANITIZE feature set
	   *	BLOCK_ERASE_EXT command
	   *	Data Set Management TRIM supported (limit 8 blocks)
`
	openSecurity = `Security: 
	Master password revision code = 65534
		supported
	not	enabled
	not	locked
	not	frozen
	not	expired: security count
		supported: enhanced erase
	2min for SECURITY ERASE UNIT. 2min for ENHANCED SECURITY ERASE UNIT.
Logical Unit WWN Device Identifier: 5001b448bbc61f38
Checksum: correct
`
	disk = "Commands/features:\n\tEnabled\tSupported:\n\t   *\tSANITIZE feature set\n\t   *\tCRYPTO_SCRAMBLE_EXT command\n\t   *\tOVERWRITE_EXT command\n"
)

func TestATA(t *testing.T) {
	frozen := strings.Replace(openSecurity, "not	frozen", "	frozen", 1)
	enabled := strings.Replace(openSecurity, "not	enabled", "	enabled", 1)
	for name, tt := range map[string]struct{ said, want string }{
		"an SSD":                  {ssd + openSecurity, "{blockErase:true overwrite:false format:false erase:true locked:false}"},
		"frozen by the firmware":  {ssd + frozen, "{blockErase:true overwrite:false format:false erase:false locked:false}"},
		"with a password":         {ssd + enabled, "{blockErase:true overwrite:false format:false erase:true locked:true}"},
		"without the feature set": {strings.Replace(ssd, "*	SANITIZE", " 	SANITIZE", 1), "{blockErase:false overwrite:false format:false erase:false locked:false}"},
		"a spinning disk":         {disk, "{blockErase:false overwrite:true format:false erase:false locked:false}"},
		"no security":             {ssd + strings.Replace(openSecurity, "	supported\n", "not	supported\n", 1), "{blockErase:true overwrite:false format:false erase:false locked:false}"},
		"nothing":                 {"", "{blockErase:false overwrite:false format:false erase:false locked:false}"},
	} {
		if got := wipe.ATA(tt.said); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

// identify is an NVMe controller's answer with these bytes.
func identify(oacs, sanicap byte) []byte {
	answer := make([]byte, 4096)
	answer[256], answer[328] = oacs, sanicap
	return answer
}

func TestNVMe(t *testing.T) {
	for name, tt := range map[string]struct {
		answer []byte
		want   string
	}{
		"format alone":     {identify(0x02, 0), "{blockErase:false overwrite:false format:true erase:false locked:false}"},
		"all kinds":        {identify(0x1f, 0x07), "{blockErase:true overwrite:false format:true erase:false locked:false}"},
		"keys alone":       {identify(0x01, 0x01), "{blockErase:false overwrite:false format:false erase:false locked:false}"},
		"half of it":       {identify(0x02, 0x02)[:2048], "{blockErase:false overwrite:false format:false erase:false locked:false}"},
		"nothing was said": {nil, "{blockErase:false overwrite:false format:false erase:false locked:false}"},
	} {
		if got := wipe.NVMe(tt.answer); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

func TestStatus(t *testing.T) {
	for said, want := range map[string]string{
		"Sanitize status:\n    State:    SD2 Sanitize operation In Process\n    Progress: 0x41c2 (25%)\n": "{running:true failed:false part:0.25}",
		"    State:    SD0 Sanitize Idle\n    Last Sanitize Operation Completed Without Error\n":          "{running:false failed:false part:0}",
		"    State:    SD0 Sanitize Idle\n    Last Sanitize Command completed unsuccessfully\n":           "{running:false failed:true part:0}",
		"    State:    SD3 Sanitize Operation Failed\n":                                                   "{running:false failed:true part:0}",
		"SD2 \nProgress: 0x0 (99999999999999999999%)":                                                     "{running:true failed:false part:1}",
		"SANITIZE feature set is not supported":                                                           `no state of sanitizing: "SANITIZE feature set is not supported"`,
		"":                                                                                                `no state of sanitizing: ""`,
	} {
		if got := wipe.ATAStatus([]byte(said)); got != want {
			t.Errorf("%q: %s, want %s", said, got, want)
		}
	}
	for said, want := range map[string]string{
		"\x00\x80\x02\x00": "{running:true failed:false part:0.5}",
		"\xff\xff\x01\x01": "{running:false failed:false part:0.9999847412109375}",
		"\x00\x00\x03\x00": "{running:false failed:true part:0}",
		"\x00":             "1 bytes are no sanitize log",
	} {
		if got := wipe.NVMeStatus([]byte(said)); got != want {
			t.Errorf("%q: %s, want %s", said, got, want)
		}
	}
}

// FuzzAnswers: no answer of a drive or program stops the agent, and nothing is
// more than done.
func FuzzAnswers(f *testing.F) {
	for _, said := range []string{ssd + openSecurity, disk, "State: SD2 \nProgress: 0x41c2 (25%)", "\xff\xff\x02\x00", string(identify(2, 2))} {
		f.Add([]byte(said))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		wipe.ATA(string(said))
		wipe.NVMe(said)
		for _, is := range []string{wipe.ATAStatus(said), wipe.NVMeStatus(said)} {
			var running, failed bool
			var part float64
			n, _ := fmt.Sscanf(is, "{running:%t failed:%t part:%g}", &running, &failed, &part)
			if n == 3 && (part < 0 || part > 1) {
				t.Errorf("%s", is)
			}
		}
	})
}
