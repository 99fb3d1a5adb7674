package rack_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"edeploy/integration/lab"
	"edeploy/integration/rack"
	"edeploy/server/api"
)

func TestSteps(t *testing.T) {
	at := func(seconds int) time.Time { return time.Unix(int64(seconds), 0) }
	m := api.Machine{History: []api.HistoryLine{
		{Time: at(10), Step: "transfer", Status: "started"},
		{Time: at(30), Step: "transfer", Status: "done", Seconds: 20},
		{Time: at(35), Step: "reboot", Status: "installed", Seconds: 34},
		{Time: at(36), Step: "installed", Status: "note", Message: "boots its own disk"},
	}}
	want := []lab.TimedStep{
		{Machine: "m1", Name: "transfer", Start: at(10), End: at(30)},
		{Machine: "m1", Name: "installed, all steps", Start: at(1), End: at(35)},
	}
	if diff := cmp.Diff(want, rack.Steps(&m, "m1")); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
}
