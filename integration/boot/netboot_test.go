package boot

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"edeploy/integration/lab"
	"edeploy/integration/lab/labtest"
	"edeploy/integration/needs"
	"edeploy/pxe"
	"edeploy/server/wire"
)

// TestHTTPBoot: UEFI firmware that boots by HTTP alone gets its loader and
// everything else that way, and comes into the agent.
func TestHTTPBoot(t *testing.T) {
	labtest.NeedVM(t)
	long(t)
	if !needs.Namespace(t, own.programs...) {
		return
	}
	s := serve(t, own.lay(t))
	start(t, withoutPXE(machine(lab.UEFI)))
	s.reaches(t, 2*time.Minute)
	if s.at("GET /boot/file/snponly.efi").IsZero() {
		t.Error("the loader was not fetched by HTTP")
	}
}

// TestSecureBootNetboot: firmware with Microsoft's keys and Secure Boot on comes
// into the agent by shim and GRUB. A kernel with one bit flipped is refused; the
// machine asks again, and goes on when the right one is there.
func TestSecureBootNetboot(t *testing.T) {
	labtest.NeedVM(t)
	if !needs.Namespace(t, own.programs...) {
		return
	}
	conf := own.lay(t)
	conf.Loader = pxe.LoaderGRUB
	var repair func()
	conf.BootDir, repair = flipped(t)
	s := serve(t, conf)
	vm := start(t, machine(lab.SecureBoot))
	labtest.Expect(t, vm, time.Minute, "(?s)bad shim signature.*"+mac+" could not start the agent, asking again")
	repair()
	labtest.Expect(t, vm, time.Minute, secure)
	s.reaches(t, time.Minute)
	if s.at("could not start the agent; boots: install").IsZero() {
		t.Error("the history does not say that the agent could not be started")
	}
}

// TestSecureBootHTTP: the same way with HTTP boot, and nothing by TFTP.
func TestSecureBootHTTP(t *testing.T) {
	labtest.NeedVM(t)
	long(t)
	if !needs.Namespace(t, own.programs...) {
		return
	}
	conf := own.lay(t)
	conf.Loader = pxe.LoaderGRUB
	s := serve(t, conf)
	vm := start(t, withoutPXE(machine(lab.SecureBoot)))
	labtest.Expect(t, vm, 90*time.Second, secure)
	s.reaches(t, time.Minute)
	for _, file := range []string{"/boot/file/shimx64.efi", "/boot/file/grubx64.efi", "/grub/grub.cfg"} {
		if s.at("GET " + file).IsZero() {
			t.Errorf("%s was not fetched by HTTP", file)
		}
	}
}

// TestSecureBootLocal: GRUB starts the own disk of a machine that is installed,
// by the signed loaders there: the marked one, whichever comes first, or the
// first when none is marked.
func TestSecureBootLocal(t *testing.T) {
	labtest.NeedVM(t)
	long(t)
	if !needs.Namespace(t, own.programs...) {
		return
	}
	const foreign, ours = "22222222-0000-4000-8000-000000000000", "11111111-0000-4000-8000-000000000000"
	for _, test := range []struct {
		name  string
		disk  wire.DiskID // that the server knows of
		wants string
	}{
		{"the marked one", ours, "DISK " + ours},
		{"none has the mark", "33333333-0000-4000-8000-000000000000", "the installed disk is not there.*DISK " + foreign},
	} {
		t.Run(test.name, func(t *testing.T) {
			conf := own.lay(t)
			conf.Loader, conf.Policy = pxe.LoaderGRUB, installed{}
			conf.BootDisks = func(string, string) []wire.DiskID { return []wire.DiskID{test.disk} }
			serve(t, conf)
			l := labtest.New(t)
			m := machine(lab.SecureBoot)
			for _, id := range []wire.DiskID{foreign, ours} {
				path, said := l.Path(string(id)+".raw"), l.Path(string(id)+".cfg")
				sayDisk(t, said, id)
				espDisk(t, path, id, map[string]string{"EFI/BOOT/BOOTX64.EFI": "../../out/boot/shimx64.efi", "EFI/BOOT/grubx64.efi": "../../out/boot/grubx64.efi",
					"grub/grub.cfg": said, id.Mark(): said})
				m.Disks = append(m.Disks, lab.Disk{Path: path})
			}
			labtest.Expect(t, labtest.Start(t, l, m), 90*time.Second, "(?s)"+mac+" is installed, booting its own disk.*"+test.wants)
		})
	}
}

// long skips what make test has no time for.
func long(t *testing.T) {
	t.Helper()
	if os.Getenv("EDEPLOY_LONG") != "1" {
		t.Skip("takes minutes: EDEPLOY_LONG=1 runs it")
	}
}

// secure is what the kernel says three times: a busy serial port may lose a
// character.
const secure = `UEFI Secure Boot is enabled|locked down from EFI Secure Boot|Secure boot enabled`

// TestMatrix: every firmware comes into the agent in every kind of network.
func TestMatrix(t *testing.T) {
	labtest.NeedVM(t)
	long(t)
	topologies := []topology{own, beside, relayed}
	if !needs.Namespace(t, append(beside.programs, relayed.programs...)...) {
		return
	}
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "power-on to agent\t%s\t%s\t%s\n", own.name, beside.name, relayed.name)
	for _, f := range []struct {
		name     string
		firmware lab.Firmware
		loader   pxe.Loader
	}{{"SeaBIOS", lab.BIOS, pxe.LoaderIPXE}, {"OVMF", lab.UEFI, pxe.LoaderIPXE}, {"OVMF Secure Boot", lab.SecureBoot, pxe.LoaderGRUB}} {
		fmt.Fprint(w, f.name)
		for _, n := range topologies {
			cell := "failed"
			t.Run(f.name+", "+n.name, func(t *testing.T) {
				conf := n.lay(t)
				conf.Loader = f.loader
				s := serve(t, conf)
				began := time.Now()
				start(t, machine(f.firmware))
				s.reaches(t, 3*time.Minute)
				cell = fmt.Sprintf("%.0f s", time.Since(began).Seconds())
			})
			fmt.Fprint(w, "\t", cell)
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	t.Logf("\n%s", table.String())
}
