package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"edeploy/server"
	"edeploy/server/api"
	"edeploy/server/wire"
)

// TestAttention: the list of problems has whatever an operator must mend, each
// with the command that mends it.
func TestAttention(t *testing.T) {
	files := seedFiles()
	files["state"] = "[('vm', '*'), ('db', 0), ('big', 9)]\n"
	files["vm.cmdb"] = "[{'ip': '10.0.0.1', 'hostname': 'node1'}, {'ip': '10.0.0.2', 'hostname': 'node2'}]\n"
	files["big.specs"], files["db.specs"] = "[('disk', '$d', 'size', 'gt(400)')]\n", "[('disk', '$d', 'size', 'lt(4)')]\n"
	files["big.configure"], files["db.configure"] = "set_role('big', 'V1', 'x')\n", "set_role('mysql', 'D7-F.1.0.0', 'x')\n"
	files["big.cmdb"] = "[{'ip': '10.0.1.1'}]\n"
	l := newLab(t, files)
	l.images = func() ([]wire.ImageRef, error) {
		return []wire.ImageRef{{Role: "mysql", Version: "D7-F.1.0.0"}}, nil
	}
	l.start()
	l.mustGet(vm(1))
	l.report(wire.Report{Machine: vm(1).Identity(), Step: wire.StepConfigure, Status: wire.StatusFailed, Message: "no disk"}, http.StatusOK)
	l.mustGet(vm(2))
	l.installed(vm(2))
	l.do("DELETE", "/api/v1/machines/"+idOf(2)+"?force=1", "", nil)
	l.report(wire.Report{Machine: vm(2).Identity(), Step: wire.StepUpgrade, Status: wire.StatusDone}, http.StatusOK)
	l.mustGet(vm(4)) // takes the last entry
	l.upload(tiny(3))
	held := tiny(5)
	l.upload(held)
	l.boot(idOf(5), "hold", http.StatusOK)
	for _, want := range []string{
		"machine " + idOf(1) + " (node1) FAILED configure: no disk. It tries again when it boots: edeployctl logs " + idOf(1),
		"edeployctl machines restore " + idOf(2),
		"db fits, but its count is 0: edeployctl state set db N. It tries again",
		"profile db takes no more machines, its count is 0: edeployctl state set db N",
		"all 2 entries of vm.cmdb are used",
		"profile big takes 9 more machines, but big.cmdb has 1 free entry",
		"profile big installs big V1, which this appliance has not: edeployctl push big V1",
	} {
		if !l.problemSays(want) {
			t.Errorf("no problem says %q:\n%s", want, l.problemTexts())
		}
	}
	for _, unwanted := range []string{"installs mysql", idOf(5)} {
		if l.problemSays(unwanted) {
			t.Errorf("a problem says %q:\n%s", unwanted, l.problemTexts())
		}
	}
}

// TestNoState: an appliance without profiles says what to do first.
func TestNoState(t *testing.T) {
	l := startLab(t, nil)
	if want := "has no state file, so no machine gets a profile: bring one with its profiles (edeployctl config push DIR)"; !l.problemSays(want) {
		t.Errorf("no problem says %q:\n%s", want, l.problemTexts())
	}
}

func (l *lab) problemTexts() string {
	var all strings.Builder
	for _, p := range l.server.Problems() {
		fmt.Fprintf(&all, "  %s\n", p.Text)
	}
	return all.String()
}

// TestAttentionBound: thousands of failed machines do not hide what else is
// wrong, nor does anybody's refused upload.
func TestAttentionBound(t *testing.T) {
	l := newLab(t, seedFiles())
	l.quiet = true
	l.limits = server.Limits{NewPerPeer: 1000}
	l.start()
	for n := range 230 {
		l.upload(tiny(n + 1))
	}
	if !l.problemSays("30 more machines have failed") {
		t.Errorf("%s", l.problemTexts())
	}
	l.mustGet(genuine(300))
	l.installed(genuine(300))
	for n := range 300 {
		l.server.BootAction(mac(1000+n), genuineUUID)
	}
	if got := len(l.server.Problems()); got > 350 {
		t.Errorf("%d problems", got)
	}
}

// TestScriptProblems: a script that cannot run is a problem until it is mended.
func TestScriptProblems(t *testing.T) {
	files := seedFiles()
	files["vm.configure"] = "run('x'\n"
	l := startLab(t, files)
	const want = "vm.configure:2:1: want ')', got the end of the file: mend the script, and edeployctl config push"
	if !l.problemSays(want) || !l.problemSays("vm.configure: the script never calls set_role") {
		t.Errorf("no problem says %q:\n%s", want, l.problemTexts())
	}
	l.push(api.ConfigSet{Files: map[string]string{"vm.configure": "set_role('a', '1', 'b')\n"}}, "", http.StatusOK)
	if l.problemSays("vm.configure") {
		t.Errorf("it is mended:\n%s", l.problemTexts())
	}
}
