package boot

import (
	"testing"
	"time"

	"edeploy/integration/lab"
	"edeploy/integration/lab/labtest"
	"edeploy/integration/needs"
	"edeploy/pxe"
)

// TestGaps: the boot services are gone for 30 s after each step of a boot: the
// machine comes into the agent every time, by its loader's patience or by its
// firmware's. SeaBIOS tries once and stops unless it is told to start again, as
// servers' firmware can be.
func TestGaps(t *testing.T) {
	labtest.NeedVM(t)
	long(t)
	if !needs.Namespace(t, own.programs...) {
		return
	}
	for _, f := range []struct {
		name     string
		firmware lab.Firmware
		loader   pxe.Loader
	}{{"SeaBIOS", lab.BIOS, pxe.LoaderIPXE}, {"OVMF", lab.UEFI, pxe.LoaderIPXE}, {"OVMF Secure Boot", lab.SecureBoot, pxe.LoaderGRUB}} {
		for _, gap := range []struct{ after, log string }{
			{"OFFER", "answer=OFFER"}, {"ACK", "answer=ACK"}, {"loader", "msg=TFTP"}, {"script", `msg="boot script"`}, {"kernel", "GET /boot/file/vmlinuz"},
		} {
			if f.firmware == lab.BIOS && gap.after == "loader" {
				continue // iPXE is in the card
			}
			t.Run(f.name+", "+gap.after, func(t *testing.T) {
				conf := own.lay(t)
				conf.Loader = f.loader
				s := serve(t, conf)
				began := time.Now()
				m := machine(f.firmware)
				m.Extra = append(m.Extra, "-boot", "reboot-timeout=5000")
				start(t, m)
				s.await(t, gap.log, 2*time.Minute)
				s.stop()
				time.Sleep(30 * time.Second) // what the story is about
				s.start(t)
				s.reaches(t, 8*time.Minute)
				t.Logf("power-on to agent: %.0f s", time.Since(began).Seconds())
			})
		}
	}
}
