package ipxe_test

import (
	"os"
	"strings"
	"testing"

	"edeploy/pxe/internal/ipxe"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

// TestWrite compares the scripts with testdata/NAME.ipxe. EDEPLOY_GOLDEN=1
// writes them anew.
func TestWrite(t *testing.T) {
	for name, action := range map[string]wire.BootAction{"install": wire.BootInstall, "rescue": wire.BootRescue, "wipe": wire.BootWipe,
		"local": wire.BootLocal, "local-disk": wire.BootLocal, "hold": wire.BootHold, "hold-unknown": wire.BootHold} {
		t.Run(name, func(t *testing.T) {
			args := wire.DefaultBootArgs()
			args.Serv, args.OnFailure, args.Kept = "192.168.122.1", "console", "console=tty0 panic=30"
			const base, query = "http://192.168.122.1/boot/", "?mac=52:54:12:34:00:01&uuid=6a3c0a52-5a9d-4d3f-8a75-0123456789ab"
			var disks []string
			why := ""
			if name == "hold-unknown" {
				why = "it is not known here; edeployctl add 52:54:12:34:00:01 lets it be installed"
			}
			if name == "local-disk" {
				disks = []string{base + "disk" + query + "&disk=12345678", base + "disk" + query + "&disk=9abcdef0"}
			}
			got, err := ipxe.Write(ipxe.Script{
				Machine: "52:54:12:34:00:01", Action: action, Why: why,
				Again:  base + "ipxe" + query + "&again=" + string(action),
				Kernel: base + "file/vmlinuz" + query, Initrd: base + "file/initrd.pxe" + query,
				Args: "console=ttyS0 " + args.String(), Disks: disks,
			})
			if err != nil {
				t.Fatal(err)
			}
			golden := "testdata/" + name + ".ipxe"
			if os.Getenv("EDEPLOY_GOLDEN") != "" {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestWriteRefuses(t *testing.T) {
	if _, err := ipxe.Write(ipxe.Script{Action: "explode"}); err == nil || !strings.Contains(err.Error(), `"explode"`) {
		t.Errorf("error %v, want one that names the action", err)
	}
}

func TestCheckArgs(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"console=ttyS0 SERV=10.0.0.1 | console=tty0 | x=$y", ""},
		{"", ""},
		{"a\nshell", `control character '\n'`},
		{"x=${net0/mac}", "${"},
		{"a || shell", `"||"`},
		{"a && shell", `"&&"`},
		{"a #b", `"#b"`},
		{"a=#b", ""},
		{strings.Repeat("x", 2000), "2000 bytes"},
	} {
		err := ipxe.CheckArgs(test.args)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("CheckArgs(%.40q) = %v, want %q", test.args, err, test.want)
		}
	}
}
