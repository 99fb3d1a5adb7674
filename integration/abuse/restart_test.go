package abuse_test

import (
	"syscall"
	"testing"
	"time"

	"edeploy/integration/needs"
)

// The daemon is killed again and again: a machine that asks meanwhile gets its
// answers, of every service, and notices nothing but the time.
func TestKilled(t *testing.T) {
	if !isolated(t) {
		return
	}
	honest, _ := newRack(t)
	d := newDaemon(t)
	d.start(t, honest)
	for range 3 {
		must(t, syscall.Kill(d.pid, syscall.SIGKILL))
		if err := honest.round(t.Context()); err != nil {
			t.Errorf("while the daemon restarts: %v", err)
		}
		if d.pid = childOf(d.cmd.Process.Pid); d.pid == 0 {
			t.Fatal("no daemon after the round")
		}
	}
	d.stop(t)
}

// The provisioning device is removed and made anew under the same name: every
// service is there again.
func TestDeviceMadeAnew(t *testing.T) {
	if !isolated(t) {
		return
	}
	honest, _ := newRack(t)
	d := newDaemon(t)
	d.start(t, honest)
	needs.IP(t, "link", "del", "br0")
	d.await(t, "network device br0 is gone: no machine can boot until it is back")
	makeBridge(t)
	needs.IP(t, "link", "set", "port-honest", "master", "br0", "up")
	end := time.Now().Add(20 * time.Second)
	for {
		err := honest.round(t.Context())
		if err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("on the new device: %v\n%s", err, d.lastLines())
		}
	}
	if pid := childOf(d.cmd.Process.Pid); pid != d.pid {
		t.Errorf("the daemon was restarted: process %d is now %d\n%s", d.pid, pid, d.lastLines())
	}
	d.stop(t)
}
