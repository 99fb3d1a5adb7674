package role_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The initramfs script of the base role calls the client when an upgrade was
// interrupted, with the root writable, and puts the root back. It runs here
// with the client, mount and reboot replaced by ones that tell what they get.
func TestEarlyRecovery(t *testing.T) {
	text, err := os.ReadFile("../../roles/base/files/usr/share/initramfs-tools/scripts/local-bottom/edeploy")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, phase, mounted, status, mount string
		want                                []string
	}{
		{"never upgraded", "", "ro", "0", "0", nil},
		{"at rest", "kept 3 0", "ro", "0", "0", nil},
		{"idle", "idle 0 0", "ro", "0", "0", nil},
		{"interrupted", "applying 3 2", "ro", "0", "0", []string{"edeploy: an upgrade was interrupted (applying)", "mount -o remount,rw none ROOT",
			"client recover --root ROOT --early", "sync", "mount -o remount,ro none ROOT"}},
		{"writable", "undoing 3 2", "rw", "0", "0", []string{"edeploy: an upgrade was interrupted (undoing)", "client recover --root ROOT --early", "sync"}},
		{"reboot", "post 3 2", "ro", "100", "0", []string{"edeploy: an upgrade was interrupted (post)", "mount -o remount,rw none ROOT",
			"client recover --root ROOT --early", "sync", "mount -o remount,ro none ROOT", "edeploy: the machine starts again", "reboot -f"}},
		{"failed", "post 3 2", "rw", "1", "0", []string{"edeploy: an upgrade was interrupted (post)", "client recover --root ROOT --early", "sync",
			"edeploy: the recovery ended with exit status 1, the machine boots as it is"}},
		{"damaged disk", "applying 3 2", "ro", "1", "1", []string{"edeploy: an upgrade was interrupted (applying)", "mount -o remount,rw none ROOT",
			"edeploy: ROOT cannot be mounted for writing", "client recover --root ROOT --early", "sync",
			"edeploy: the recovery ended with exit status 1, the machine boots as it is"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			root, bin, console := filepath.Join(dir, "root"), filepath.Join(dir, "bin"), filepath.Join(dir, "console")
			for _, d := range []string{filepath.Join(root, ".edeploy"), bin} {
				if err := os.MkdirAll(d, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			put := func(name, content string) string {
				t.Helper()
				if err := os.WriteFile(name, []byte(content), 0o755); err != nil {
					t.Fatal(err)
				}
				return name
			}
			if tt.phase != "" {
				put(filepath.Join(root, ".edeploy", "phase"), tt.phase+"\n")
			}
			for program, status := range map[string]string{"client": tt.status, "mount": tt.mount, "reboot": "0", "sync": "0"} {
				put(filepath.Join(bin, program), "#!/bin/sh\necho "+program+" $* >>'"+console+"'\nexit "+status+"\n")
			}
			put(console, "")
			mounts := put(filepath.Join(dir, "mounts"), "proc /proc proc rw 0 0\n/dev/sda1 "+root+" ext4 "+tt.mounted+",relatime 0 0\n")
			script := strings.NewReplacer("/usr/sbin/edeploy ", filepath.Join(bin, "client")+" ", "</dev/console", "</dev/null", ">/dev/console", ">>"+console,
				"/proc/mounts", mounts).Replace(string(text))
			cmd := exec.Command("sh", "-c", script)
			cmd.Env = []string{"PATH=" + bin + ":/usr/bin:/bin", "rootmnt=" + root}
			if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
				t.Fatalf("%v: %s", err, out)
			}
			said, err := os.ReadFile(console)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for line := range strings.Lines(strings.ReplaceAll(string(said), root, "ROOT")) {
				got = append(got, strings.TrimSpace(line))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("console (-want +got):\n%s", diff)
			}
		})
	}
}
