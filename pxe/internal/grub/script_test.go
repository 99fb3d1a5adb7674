package grub_test

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"edeploy/integration/needs"
	"edeploy/pxe/internal/grub"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

// golden compares a script with testdata/NAME.cfg and has GRUB read it.
// EDEPLOY_GOLDEN=1 writes the files anew.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := "testdata/" + name + ".cfg"
	if os.Getenv("EDEPLOY_GOLDEN") != "" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if out, err := exec.Command(needs.Program(t, "grub-script-check"), file).CombinedOutput(); err != nil {
		t.Errorf("grub-script-check: %v\n%s", err, out)
	}
}

func TestFirst(t *testing.T) {
	got, err := grub.First("http://192.168.122.1:8080/boot/grub")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "first", got)
	for _, url := range []string{"https://192.168.122.1/boot/grub", "http://192.168.122.1", "http:///boot/grub"} {
		if text, err := grub.First(url); err == nil || !strings.Contains(err.Error(), url) {
			t.Errorf("%s: %q, %v; want an error that names it", url, text, err)
		}
	}
}

func TestWrite(t *testing.T) {
	for name, change := range map[string]func(*grub.Script){
		"install":       func(*grub.Script) {},
		"rescue":        func(s *grub.Script) { s.Action = wire.BootRescue },
		"wipe":          func(s *grub.Script) { s.Action = wire.BootWipe },
		"local":         func(s *grub.Script) { s.Action, s.Disk = wire.BootLocal, "11111111-0000-4000-8000-000000000000" },
		"local-unknown": func(s *grub.Script) { s.Action = wire.BootLocal },
		"hold":          func(s *grub.Script) { s.Action = wire.BootHold },
		"hold-unknown":  func(s *grub.Script) { s.Action, s.Why = wire.BootHold, "it isn't known; edeployctl add $x `y`" },
	} {
		t.Run(name, func(t *testing.T) {
			args := wire.DefaultBootArgs()
			args.Serv, args.OnFailure, args.Kept = "192.168.122.1", "console", "console=tty0 panic=30"
			const base, query = "http://192.168.122.1/boot/file/", "?mac=52:54:12:34:00:01&uuid=6a3c0a52-5a9d-4d3f-8a75-0123456789ab"
			s := grub.Script{Machine: "52:54:12:34:00:01", Action: wire.BootInstall, Kernel: base + "vmlinuz" + query,
				Initrd: base + "initrd.pxe" + query, Args: "console=ttyS0 " + args.String()}
			change(&s)
			got, err := grub.Write(s)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, name, got)
		})
	}
}

func TestWriteRefuses(t *testing.T) {
	for want, s := range map[string]grub.Script{
		`"explode"`: {Action: "explode"},
		`'"'`:       {Action: wire.BootInstall, Args: `dyndbg="module x +p"`},
		`'\\'`:      {Action: wire.BootInstall, Args: `a\b`},
		`ftp://x/y`: {Action: wire.BootRescue, Kernel: "ftp://x/y"},
	} {
		if text, err := grub.Write(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %q, error %v, want one with %s", s, text, err, want)
		}
	}
}

// words are texts in quotes, one behind another.
var words = regexp.MustCompile(`( ('[^']*'|\\')+)+`)

// FuzzWrite: whatever a machine is called, whyever it waits and whatever its
// kernel is told, it is words in the commands that every machine gets.
func FuzzWrite(f *testing.F) {
	f.Add("52:54:12:34:00:01", "it is not known here", "console=ttyS0 | x |")
	f.Add("a'b", "'; reboot; echo '", "a=$b ${c} ; halt # d")
	f.Fuzz(func(t *testing.T, machine, why, args string) {
		for _, action := range []wire.BootAction{wire.BootInstall, wire.BootHold, wire.BootLocal} {
			s := grub.Script{Machine: machine, Why: why, Action: action, Args: args, Kernel: "http://a/b", Initrd: "http://a/c"}
			text, err := grub.Write(s)
			if err != nil {
				continue
			}
			s.Machine, s.Why, s.Args = "m", "w", ""
			plain, err := grub.Write(s)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := words.ReplaceAllString(text, " W"), words.ReplaceAllString(plain, " W"); got != want {
				t.Errorf("commands\n%s\nwant\n%s", got, want)
			}
		}
	})
}
