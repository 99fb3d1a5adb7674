package main

import (
	"bufio"
	"bytes"
	"strings"
	"testing"

	"edeploy/server/api"
)

// TestWipe: a machine is erased when somebody has seen it and has said its name;
// scripts say it, too.
func TestWipe(t *testing.T) {
	address, _ := start(t)
	m, err := (&api.Client{Address: address}).Machine(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	boots := func(want string) {
		t.Helper()
		if out, _ := ask(t, 0, "show", id, "--server", address); !strings.Contains(out, want+" (set to ") {
			t.Errorf("boots otherwise than %s:\n%s", want, out)
		}
	}
	for _, tt := range []struct {
		status int
		args   []string
		want   string
	}{
		{couldNotLook, nil, "there is no terminal: --force " + m.DisplayName + " erases the disks of machine " + id},
		{1, []string{"--force", "node7"}, "is called " + m.DisplayName + ", and not node7: nothing was changed"},
	} {
		if _, stderr := ask(t, tt.status, append([]string{"wipe", id, "--server", address}, tt.args...)...); !strings.Contains(stderr, tt.want) {
			t.Errorf("%q: %s", tt.args, stderr)
		}
		boots("install")
	}
	for _, tt := range []struct{ answers, want, err string }{
		{"n\n", "", "nothing was changed"},
		{"", "", "nothing was changed"},
		{"y\ny\n", "", "that is not its name: nothing was changed"},
		{"y\n", "", "that is not its name: nothing was changed"},
		{"y\n" + m.DisplayName + "\n", "machine " + id + " (" + m.DisplayName + ") erases its disks when it boots from the network; until it begins, edeployctl release " + id + " takes it back", ""},
	} {
		boots("install")
		var stderr bytes.Buffer
		out, err := wiping{client: &api.Client{Address: address}, terminal: terminal{bufio.NewReader(strings.NewReader(tt.answers)), &stderr, true}}.one(t.Context(), id)
		if out != tt.want && tt.err == "" || (err == nil) != (tt.err == "") || err != nil && err.Error() != tt.err {
			t.Errorf("%q: %q, %v", tt.answers, out, err)
		}
		holds(t, stderr.String(), "machine", id, "MAC", "02:00:00:00:00:01", "disk", "vda: 40 GB", "Everything on its disks is destroyed. Erase them? [y/N]")
	}
	boots("wipe")
	if _, stderr := ask(t, 1, "wipe-anyway", id, "--server", address); !strings.Contains(stderr, "has not stopped because of data on its disks") {
		t.Error(stderr)
	}
	if _, stderr := ask(t, 0, "release", id, "--server", address); stderr != "" {
		t.Error(stderr)
	}
	out, _ := ask(t, 0, "wipe", id, "--force", m.DisplayName, "--server", address)
	holds(t, out, "erases its disks when it boots")
	boots("wipe")
}
