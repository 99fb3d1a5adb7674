package history_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edeploy/server/api"
	"edeploy/server/internal/history"

	"github.com/google/go-cmp/cmp"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 250_000_000, time.UTC)

func open(t *testing.T, dir string, max int64) *history.Dir {
	t.Helper()
	d, err := history.Open(dir, max)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestLines(t *testing.T) {
	for _, tt := range []struct {
		line api.HistoryLine
		text string
		back api.HistoryLine // what is read again
	}{
		{api.HistoryLine{Time: noon, Step: "transfer", Status: "done", Seconds: 34.24, Message: "401 MB"},
			"2026-11-22T12:00:00.250Z transfer done 34.2s 401 MB",
			api.HistoryLine{Time: noon, Step: "transfer", Status: "done", Seconds: 34.2, Message: "401 MB"}},
		{api.HistoryLine{Time: noon, Step: "devices", Status: "started"},
			"2026-11-22T12:00:00.250Z devices started -",
			api.HistoryLine{Time: noon, Step: "devices", Status: "started"}},
		{api.HistoryLine{Time: noon, Step: "a b\n", Status: "", Message: "one\ntwo\x1b[31m\xff"},
			"2026-11-22T12:00:00.250Z a_b - - one two[31m?",
			api.HistoryLine{Time: noon, Step: "a_b", Status: "-", Message: "one two[31m?"}},
	} {
		if got := tt.line.String(); got != tt.text {
			t.Errorf("got %q, want %q", got, tt.text)
		}
		back, err := api.ParseHistoryLine(tt.text)
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(tt.back, back); diff != "" {
			t.Errorf("read again (-want +got):\n%s", diff)
		}
	}
	long := api.HistoryLine{Time: noon, Step: "x", Status: "y", Message: strings.Repeat("m", 1<<20)}
	if n := len(long.String()); n > 2100 {
		t.Errorf("a long message makes a line of %d bytes", n)
	}
	for _, bad := range []string{"", "x", "2026 a b - c", "2026-11-22T12:00:00.250Z a b fast c"} {
		if _, err := api.ParseHistoryLine(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestRotation(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir, 500)
	for i := range 100 {
		if err := d.Append("m", i%2 == 0, api.HistoryLine{Time: noon, Step: "s", Status: "done", Message: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	lines, err := d.Tail("m", 5)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range lines {
		got = append(got, l.Message)
	}
	if diff := cmp.Diff([]string{"95", "96", "97", "98", "99"}, got); diff != "" {
		t.Errorf("tail (-want +got):\n%s", diff)
	}
	var bytes int64
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		bytes += info.Size()
	}
	if bytes > 1200 {
		t.Errorf("the history takes %d bytes", bytes)
	}
	if err := d.Remove("m"); err != nil {
		t.Fatal(err)
	}
	if lines, err := d.Tail("m", 5); len(lines) != 0 || err != nil {
		t.Errorf("after Remove: %v, %v", lines, err)
	}
}

// TestCutOff: the process was killed while it wrote a line.
func TestCutOff(t *testing.T) {
	dir := t.TempDir()
	whole := api.HistoryLine{Time: noon, Step: "a", Status: "done"}
	if err := os.WriteFile(filepath.Join(dir, "m.log"), []byte(whole.String()+"\n2026-11-22T12"), 0o644); err != nil {
		t.Fatal(err)
	}
	d := open(t, dir, 1<<20)
	if err := d.Append("m", true, api.HistoryLine{Time: noon, Step: "b", Status: "done"}); err != nil {
		t.Fatal(err)
	}
	got, err := d.Tail("m", 10)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]api.HistoryLine{whole, {Time: noon, Step: "b", Status: "done"}}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestStaysInside(t *testing.T) {
	d := open(t, t.TempDir(), 1<<20)
	if err := d.Append("../x", false, api.HistoryLine{Time: noon}); err == nil {
		t.Error("a name outside the directory: no error")
	}
}
