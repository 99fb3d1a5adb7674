package install_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"edeploy/images/manifest/archive"
	"edeploy/server/wire"
)

// publishAddon puts an add-on with one file beside the boot files.
func (a *appliance) publishAddon(name, file string) {
	a.t.Helper()
	tree := a.t.TempDir()
	a.must(errors.Join(os.MkdirAll(filepath.Join(tree, filepath.Dir(file)), 0o755), os.WriteFile(filepath.Join(tree, file), []byte("x"), 0o755)))
	a.addons = a.t.TempDir()
	packed, err := os.Create(filepath.Join(a.addons, name+".edeploy"))
	a.must(err)
	m, err := archive.Pack(a.t.Context(), packed, tree)
	a.must(errors.Join(err, packed.Close()))
	text, err := os.Create(filepath.Join(a.addons, name+".mtree"))
	a.must(err)
	_, err = m.WriteTo(text)
	a.must(errors.Join(err, text.Close()))
}

// The tools of add-ons are there when the hardware is described; those that
// cannot be had are said there, and nothing else comes of it.
func TestAddons(t *testing.T) {
	a := newAppliance(t)
	a.publishAddon("tools", "usr/sbin/megacli")
	m := newBlank(t, a, "ADDONS=none,tools,tools/8.07")
	detect := m.env.Detect
	m.env.Detect = func(ctx context.Context, args wire.BootArgs, log *slog.Logger) (wire.Hardware, error) {
		m.read(t, "usr/sbin/megacli")
		return detect(ctx, args, log)
	}
	if err := m.install(t); err != nil {
		t.Fatal(err)
	}
	hw, err := wire.DecodeHardware(strings.NewReader(m.read(t, "hw.json")))
	if err != nil {
		t.Fatal(err)
	}
	var skipped []string
	for _, fact := range hw {
		if fact.Category == "system" && fact.ID == "detection" && fact.Field == "skipped" {
			skipped = append(skipped, fact.Text())
		}
	}
	url := strings.TrimPrefix(a.http.URL, "http://")
	for i, want := range []string{"add-on none: http://" + url + "/boot/file/addons/none.edeploy does not exist: ", "add-on tools/8.07: http://" + url + "/install/8.07/tools-8.07.edeploy does not exist: "} {
		if len(skipped) != 2 || !strings.HasPrefix(skipped[i], want) || !strings.Contains(m.console.String(), "] detect: "+want) {
			t.Errorf("skipped %q, want %q, on the console, too", skipped, want)
		}
	}
	if !strings.Contains(m.console.String(), "] detect: add-on tools: 0 MB, from http://") {
		t.Error("the console does not say which add-on came")
	}
}

// A rescue shell has them, too.
func TestRescueAddons(t *testing.T) {
	a := newAppliance(t)
	a.publishAddon("tools", "usr/sbin/megacli")
	m := newBlank(t, a, "RESCUE=1 ADDONS=tools")
	m.env.Shell = func(context.Context) error {
		m.read(t, "usr/sbin/megacli")
		return nil
	}
	if err := m.install(t); err != nil {
		t.Fatal(err)
	}
}

// A script's interpreter that can be had nowhere ends the installation before the
// first command.
func TestNoPython(t *testing.T) {
	a := newAppliance(t)
	a.script = "#!/usr/bin/env python3\nrun('mkfs.ext4 /dev/vda')\nset_role('mysql', 'D7-F.1.0.0', 'vda')\n"
	m := newBlank(t, a, "")
	rsync, err := exec.LookPath("rsync")
	a.must(err)
	bin := t.TempDir()
	a.must(os.Symlink(rsync, filepath.Join(bin, "rsync")))
	t.Setenv("PATH", bin)
	err = m.install(t)
	const want = "/boot/file/addons/python3.edeploy does not exist: it comes with the appliance, "
	if err == nil || !strings.HasPrefix(err.Error(), "configure: vm.configure:1: #!/usr/bin/env python3: add-on python3: http://") || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
	for _, event := range m.events {
		if strings.HasPrefix(event, "mkfs") {
			t.Errorf("the script ran: %q", m.events)
		}
	}
}
