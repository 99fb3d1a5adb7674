package bootguard_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"edeploy/agent/internal/bootguard"
	"edeploy/integration/needs"

	"github.com/google/go-cmp/cmp"
)

// update writes the golden files anew.
var update = os.Getenv("EDEPLOY_GOLDEN") != ""

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const release = "6.1.0-56-cloud-amd64"

func everything(string) bool { return true }

func TestCustom(t *testing.T) {
	configs, err := filepath.Glob("testdata/*.cfg")
	must(t, err)
	if len(configs) != 4 {
		t.Fatalf("testdata has %d configurations", len(configs))
	}
	for _, name := range configs {
		t.Run(filepath.Base(name), func(t *testing.T) {
			config, err := os.ReadFile(name)
			must(t, err)
			got, files, err := bootguard.Custom(string(config), release, everything)
			must(t, err)
			if diff := cmp.Diff([]string{"vmlinuz-" + release, "initrd.img-" + release}, files); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			golden := strings.TrimSuffix(name, ".cfg") + ".golden"
			if update {
				must(t, os.WriteFile(golden, []byte(got), 0o644))
			}
			want, err := os.ReadFile(golden)
			must(t, err)
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("custom.cfg (-want +got):\n%s", diff)
			}
			both := filepath.Join(t.TempDir(), "both.cfg")
			must(t, os.WriteFile(both, append(config, got...), 0o644))
			if out, err := exec.Command(needs.Program(t, "grub-script-check"), both).CombinedOutput(); err != nil {
				t.Errorf("GRUB does not understand it: %v\n%s", err, out)
			}
		})
	}
}

// start is a grub.cfg with one entry of these lines.
func start(lines ...string) string {
	return "menuentry 'x' --class y {\n" + strings.Join(lines, "\n") + "\n}\nsource ${config_directory}/custom.cfg\n"
}

func TestCustomChooses(t *testing.T) {
	two, err := os.ReadFile("testdata/separate-twokernels.cfg")
	must(t, err)
	for name, test := range map[string]struct {
		config, release string
		want            []string // parts of the text
		err             string
	}{
		"another kernel runs":  {string(two), "5.10.0-1-amd64", []string{"\tlinux\t/edeploy/vmlinuz-6.1.0-99-cloud-amd64 root=UUID="}, ""},
		"its files are gone":   {string(two), release, []string{"vmlinuz-6.1.0-99"}, ""},
		"no release":           {string(two), "", []string{"vmlinuz-6.1.0-99"}, ""},
		"microcode":            {start("linux /boot/vmlinuz-1 root=/dev/md0", "initrd /boot/ucode.cpio /boot/initrd-1"), "1", []string{"linux\t/boot/edeploy/vmlinuz-1 root=/dev/md0 edeploy.recover\n", "initrd\t/boot/edeploy/ucode.cpio /boot/edeploy/initrd-1\n"}, ""},
		"subvolume":            {start("linux /@/boot/vmlinuz-1 rootflags=subvol=@", "initrd /@/boot/initrd-1"), "1", []string{"/@/boot/edeploy/vmlinuz-1 rootflags=subvol=@ edeploy.recover"}, ""},
		"remembers nothing":    {start("recordfail", "savedefault", "linux /boot/vmlinuz-1 ro", "initrd /boot/initrd-1"), "1", []string{"{\n\tlinux\t"}, ""},
		"braces in an entry":   {start("if true; then {", "echo x", "}", "fi", "linux /boot/vmlinuz-1 ro", "initrd /boot/initrd-1"), "1", []string{"\techo x\n\t}\n\tfi\n\tlinux\t"}, ""},
		"recovery mode only":   {start("linux /boot/vmlinuz-1 ro single", "initrd /boot/initrd-1"), "1", nil, "it has no entry that starts a kernel"},
		"no initial RAM disk":  {start("linux /boot/vmlinuz-1 ro"), "1", nil, "it has no entry that starts a kernel"},
		"variable in a path":   {start("linux ${prefix}/vmlinuz-1 ro", "initrd /boot/initrd-1"), "1", nil, "it has no entry that starts a kernel"},
		"does not read custom": {strings.ReplaceAll(string(two), "custom.cfg", "x.cfg"), release, nil, "it does not read custom.cfg"},
		"blscfg":               {"blscfg\nsource custom.cfg\n", "1", nil, "it has no entry that starts a kernel"},
	} {
		t.Run(name, func(t *testing.T) {
			present := func(file string) bool { return !strings.Contains(name, "gone") || !strings.Contains(file, "56") }
			got, _, err := bootguard.Custom(test.config, test.release, present)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("error = %v, want %q", err, test.err)
				}
				return
			}
			must(t, err)
			for _, want := range test.want {
				if !strings.Contains(got, want) {
					t.Errorf("custom.cfg is\n%swant %q", got, want)
				}
			}
		})
	}
}

func FuzzCustom(f *testing.F) {
	for _, name := range []string{"one-onekernel", "separate-twokernels"} {
		config, err := os.ReadFile("testdata/" + name + ".cfg")
		must(f, err)
		f.Add(string(config))
	}
	f.Add("menuentry {\n{\n}\n}\nlinux /x\ncustom.cfg")
	f.Fuzz(func(t *testing.T, config string) {
		text, files, err := bootguard.Custom(config, release, everything)
		if err != nil {
			return
		}
		if len(files) < 2 || strings.Count(text, "--id edeploy-recover {\n") < 1 || !strings.Contains(text, " edeploy.recover\n") {
			t.Errorf("files %q, text\n%s", files, text)
		}
		for _, name := range files {
			if strings.Contains(name, "/") {
				t.Errorf("file %q", name)
			}
		}
	})
}
