package wipe_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"edeploy/agent/internal/command"
	"edeploy/agent/internal/drive"
	"edeploy/agent/internal/wipe"
	"edeploy/integration/needs"
)

// loop is a block device that is a file.
func loop(t *testing.T, file string) string {
	t.Helper()
	needs.Root(t)
	needs.Programs(t, "losetup", "blkdiscard")
	out, err := exec.CommandContext(t.Context(), "losetup", "--find", "--show", file).CombinedOutput()
	needs.That(t, err == nil, "loop devices: %s", out)
	device := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", device).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	return device
}

// TestBlockDevices erases real block devices, by the kernel and past its caches.
func TestBlockDevices(t *testing.T) {
	for _, tt := range []struct {
		method   string
		discards bool
	}{{"zeros", false}, {"discard", true}} {
		t.Run(tt.method, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "disk")
			const size = 24<<20 + 512
			if err := os.WriteFile(file, full(size).data, 0o600); err != nil {
				t.Fatal(err)
			}
			device := loop(t, file)
			var notes []string
			host := wipe.Host{Run: command.On(t.Output()), Note: func(text string) { notes = append(notes, text) }, Progress: func(int64) {}}
			got := host.Erase(t.Context(), []drive.Drive{{Name: filepath.Base(device), SizeBytes: size, Discards: tt.discards}})[0]
			t.Log(strings.Join(notes, "\n"))
			if got.Error != "" || got.Method != tt.method || got.Held != got.Samples || got.Samples < 1200 {
				t.Errorf("%+v", got)
			}
			data, err := os.ReadFile(file)
			if err != nil || !bytes.Equal(data, make([]byte, size)) {
				t.Errorf("the disk holds data: %v", err)
			}
		})
	}
}

// TestInUse: a disk that something on the machine uses is not touched.
func TestInUse(t *testing.T) {
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, full(size).data, 0o600); err != nil {
		t.Fatal(err)
	}
	device := loop(t, file)
	user, err := os.OpenFile(device, os.O_RDONLY|os.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer user.Close()
	host := wipe.Host{Run: command.On(nil), Note: func(string) {}, Progress: func(int64) {}}
	got := host.Erase(t.Context(), []drive.Drive{{Name: filepath.Base(device), SizeBytes: size}})[0]
	if data, err := os.ReadFile(file); err != nil || !bytes.Equal(data, full(size).data) || !strings.Contains(got.Error, "an array or a volume of this machine is on it") {
		t.Errorf("%+v, %v", got, err)
	}
}
