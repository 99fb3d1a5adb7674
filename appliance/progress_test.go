package appliance

import (
	"testing"
	"time"

	"edeploy/server/api"

	"github.com/google/go-cmp/cmp"
)

func TestProgressLines(t *testing.T) {
	at := func(seconds int) time.Time { return time.Unix(1000+int64(seconds), 0) }
	var p progressLines
	var got []string
	for _, e := range []api.Event{
		{Time: at(0), Name: "db01", Step: "transfer", Status: "started"},
		{Time: at(1), Name: "db01", Step: "transfer", Status: "progress", Percent: 10, BytesPerSecond: 2e6},
		{Time: at(2), Name: "db01", Step: "transfer", Status: "progress", Percent: 20, BytesPerSecond: 2e6},
		{Time: at(2), Name: "web1", Step: "transfer", Status: "progress", Percent: 5, BytesPerSecond: 1e6},
		{Time: at(7), Name: "db01", Step: "transfer", Status: "progress", Percent: 70, BytesPerSecond: 2e6},
		{Time: at(8), Name: "db01", Step: "transfer", Status: "done", Seconds: 7.5},
		{Time: at(9), Name: "db01", Step: "boot", Status: "note", Message: "gets 10.0.3.130"},
		{Time: at(9), Name: "web1", Step: "configure", Status: "failed", Message: "parted: no space"},
		{Time: at(10), Name: "db02", Step: "match", Status: "failed", Message: "no profile fits\n  vm: line 2"},
		{Time: at(10), Name: "db02", Step: "upload", Status: "failed", Message: "the server refuses: no profile fits\n  vm: line 2"},
		{Time: at(90), Name: "db02", Step: "match", Status: "failed", Message: "no profile fits\n  vm: line 2"},
		{Time: at(99), Name: "db01", Step: "installation", Status: "installed", Seconds: 99},
	} {
		if line := p.line(e); line != "" {
			got = append(got, line)
		}
	}
	want := []string{
		"db01: transfer progress 10%, 2.0 MB/s",
		"web1: transfer progress 5%, 1.0 MB/s",
		"db01: transfer progress 70%, 2.0 MB/s",
		"db01: transfer done (7.5 s)",
		"db01: boot gets 10.0.3.130",
		"web1: configure failed parted: no space",
		"db02: match failed no profile fits |  vm: line 2",
		"db02: match failed no profile fits |  vm: line 2",
		"db01: installed (99.0 s)",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("console lines (-want +got):\n%s", diff)
	}
}
