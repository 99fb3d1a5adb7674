package labtest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestSweep(t *testing.T) {
	for _, test := range []struct {
		failed bool
		want   []string
	}{
		{false, nil},
		{true, []string{"rack/vm.console.log", "wire.pcap"}},
	} {
		dir := filepath.Join(t.TempDir(), "x")
		if err := os.MkdirAll(filepath.Join(dir, "rack"), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"wire.pcap", "disk.qcow2", "rack/vm.console.log", "rack/id_ed25519"} {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := sweep(dir, test.failed); err != nil {
			t.Fatal(err)
		}
		var left []string
		filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				left = append(left, strings.TrimPrefix(path, dir+"/"))
			}
			return nil
		})
		if !slices.Equal(left, test.want) {
			t.Errorf("failed %v: left %q, want %q", test.failed, left, test.want)
		}
	}
}

func TestDir(t *testing.T) {
	var dir string
	t.Run("a/part", func(t *testing.T) { dir = Dir(t) })
	if want := filepath.Join("out", "failed", "labtest-TestDir-a-part"); !strings.HasSuffix(dir, want) {
		t.Errorf("got %s, want .../%s", dir, want)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("after a test that passed: %v", err)
	}
}
