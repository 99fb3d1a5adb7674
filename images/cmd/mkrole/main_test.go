package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"edeploy/images/internal/build"

	"github.com/google/go-cmp/cmp"
)

func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := newCommand()
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestCommands(t *testing.T) {
	tests := []struct {
		args []string
		out  string // in the output
		err  string // in the error
	}{
		{[]string{"list", "--roles", "../../roles"}, "  D12-F.1.0.1  D12-F.1.0.0  0         the newest MariaDB", ""},
		{[]string{"list", "--roles", t.TempDir()}, "", "no ROLE/role.yaml and no ROLE/versions/VERSION/version.yaml below"},
		{[]string{"build", "no-such-role", "V1", "--roles", "../../roles", "--out", t.TempDir()}, "", "no such role"},
		{[]string{"build", "base", "../V1", "--roles", "../../roles"}, "", "starts with"},
		{[]string{"build", "base", "V1", "--epoch", "yesterday"}, "", "want Unix seconds or a date"},
		{[]string{"build", "mysql", "V1", "--roles", "../../roles", "--out", t.TempDir()}, "", "starts from base V1, which is not built"},
		{[]string{"check", "main_test.go"}, "", "neither zstd nor gzip nor tar"},
		{[]string{"check", "nothing.edeploy"}, "", "no such file"},
		{[]string{"diff", "a.edeploy", "b.edeploy"}, "", "a.mtree: no such file"},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args[:2], " "), func(t *testing.T) {
			out, err := run(t, tt.args...)
			if !strings.Contains(out, tt.out) {
				t.Errorf("output %q, want %q in it", out, tt.out)
			}
			if (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want %q in it", err, tt.err)
			}
		})
	}
}

func TestParseEpoch(t *testing.T) {
	now := time.Date(2025, 3, 4, 5, 6, 7, 0, time.UTC)
	for text, want := range map[string]int64{"": 1741046400, "1000": 1000, "2025-01-31": 1738281600} {
		if got, err := parseEpoch(text, now); err != nil || got.Unix() != want {
			t.Errorf("parseEpoch(%q) = %d, %v, want %d", text, got.Unix(), err, want)
		}
	}
}

func TestProgressShowsTenths(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out, time.Now())
	for i := range 101 {
		p.event(build.Event{Phase: "install", Done: i, Total: 100})
	}
	if diff := cmp.Diff(11, strings.Count(out.String(), "\n")); diff != "" {
		t.Errorf("lines (-want +got):\n%s%s", diff, out.String())
	}
}
