package boot

import (
	"fmt"
	"os"
	"testing"
	"time"

	"edeploy/integration/lab"
	"edeploy/integration/lab/labtest"
	"edeploy/integration/needs"
	"edeploy/pxe"
)

// TestFigurePowerOn is how long a machine takes from power-on to the agent's
// first request, by each firmware's way, and what of it goes into the firmware
// (until DHCP has named what it loads), the loader (until kernel and initrd are
// asked for), the transfer of these, and the agent's own start.
func TestFigurePowerOn(t *testing.T) {
	labtest.NeedVM(t)
	if os.Getenv("EDEPLOY_BENCH") != "1" {
		t.Skip("measures: EDEPLOY_BENCH=1 runs it (make bench)")
	}
	if !needs.Namespace(t, own.programs...) {
		return
	}
	for _, way := range []struct {
		name    string
		machine lab.Machine
		loader  pxe.Loader
	}{
		{"bios-pxe", machine(lab.BIOS), pxe.LoaderIPXE},
		{"uefi-pxe", machine(lab.UEFI), pxe.LoaderIPXE},
		{"uefi-http", withoutPXE(machine(lab.UEFI)), pxe.LoaderIPXE},
		{"secure-boot-pxe", machine(lab.SecureBoot), pxe.LoaderGRUB},
		{"secure-boot-http", withoutPXE(machine(lab.SecureBoot)), pxe.LoaderGRUB},
	} {
		t.Run(way.name, func(t *testing.T) {
			conf := own.lay(t)
			conf.Loader = way.loader
			s := serve(t, conf)
			times := []time.Time{time.Now()}
			start(t, way.machine)
			s.reaches(t, 3*time.Minute)
			agent := time.Now()
			times = append(times, s.at("gets "), s.at("GET /boot/file/vmlinuz"), s.at("fetched initrd.pxe"), agent)
			fmt.Printf("figure power-on-%s %.1f s =", way.name, agent.Sub(times[0]).Seconds())
			for i, step := range []string{"firmware", "loader", "transfer", "agent"} {
				fmt.Printf(" %s %.1f", step, times[i+1].Sub(times[i]).Seconds())
			}
			fmt.Println()
		})
	}
}
