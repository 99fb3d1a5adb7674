package httpboot_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"edeploy/pxe/internal/bootdisk"
	"edeploy/pxe/internal/httpboot"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

const (
	mac  = "52:54:12:34:00:01"
	uuid = "6a3c0a52-5a9d-4d3f-8a75-0123456789ab"
)

// lab is a handler, what it asked and what it told.
type lab struct {
	*httptest.Server
	action wire.BootAction
	disks  []wire.DiskID
	asked  []string
	told   []string
}

func newLab(t *testing.T) *lab {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"vmlinuz": "the kernel", "initrd.pxe": "the initrd"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "escape")); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	l := &lab{action: wire.BootInstall}
	l.Server = httptest.NewServer(&httpboot.Handler{
		BaseURL: "http://192.168.122.1", Root: root, Args: func(string, string) string { return "SERV=192.168.122.1" },
		Action: func(mac, uuid string, _ netip.Addr) (wire.BootAction, string) {
			l.asked = append(l.asked, mac+" "+uuid)
			return l.action, ""
		},
		Disks: func(string, string) []wire.DiskID { return l.disks },
		Notify: func(mac, uuid string, _ netip.Addr, sentence string) {
			l.told = append(l.told, mac+" "+uuid+" "+sentence)
		},
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	t.Cleanup(l.Close)
	return l
}

// get answers the response, its body already read.
func (l *lab) get(t *testing.T, method, path string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, l.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.URL.Opaque, _, _ = strings.Cut(path, "?") // exactly as written, with its dots
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// TestBootDisk: a machine that was installed on a known disk is sent to the
// program that starts it.
func TestBootDisk(t *testing.T) {
	l := newLab(t)
	l.action = wire.BootLocal
	const path = "/boot/disk?mac=" + mac + "&uuid=" + uuid
	if _, script := l.get(t, "GET", "/boot/ipxe?mac="+mac+"&uuid="+uuid); strings.Contains(script, "/boot/disk") {
		t.Errorf("the disk is not known:\n%s", script)
	}
	if resp, text := l.get(t, "GET", path); resp.StatusCode != 404 || !strings.Contains(text, "want the signature of an MBR") {
		t.Errorf("unknown disk: status %d %q", resp.StatusCode, text)
	}
	l.disks = []wire.DiskID{"12345678", "vda-2", "9abcdef0", "00000003", "00000004", "00000005", "00000006", "00000007", "00000008", "00000009"}
	_, script := l.get(t, "GET", "/boot/ipxe?mac="+mac+"&uuid="+uuid)
	next := "chain --autofree http://192.168.122.1" + path + "&disk="
	want := []string{"12345678", "9abcdef0", "00000003", "00000004", "00000005", "00000006", "00000007", "00000008"}
	var got []string
	for line := range strings.Lines(script) {
		if disk, ok := strings.CutPrefix(line, next); ok {
			got = append(got, disk[:strings.Index(disk, "&platform=${platform} || echo")])
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the script starts %q, want %q:\n%s", got, want, script)
	}
	for _, platform := range []string{"pcbios", "efi"} {
		want, err := bootdisk.Program("12345678", platform)
		if err != nil {
			t.Fatal(err)
		}
		if resp, text := l.get(t, "GET", path+"&disk=12345678&platform="+platform); resp.StatusCode != 200 || text != string(want) {
			t.Errorf("%s: status %d, %d bytes, want the program", platform, resp.StatusCode, len(text))
		}
	}
}

func TestScript(t *testing.T) {
	for _, test := range []struct {
		name, query string
		action      wire.BootAction
		status      int
		asked, told string // "" : not at all
		body        string // part of it
	}{
		{"install", "mac=" + mac + "&uuid=" + uuid, wire.BootInstall, 200,
			mac + " " + uuid, mac + " " + uuid + " boots: install",
			"kernel --name vmlinuz http://192.168.122.1/boot/file/vmlinuz?mac=" + mac + "&uuid=" + uuid + " initrd=initrd.pxe SERV=192.168.122.1 ||"},
		{"other forms of the names", "mac=52-54-12-34-00-0A&uuid=" + strings.ToUpper(uuid), wire.BootLocal, 200,
			"52:54:12:34:00:0a " + uuid, "52:54:12:34:00:0a " + uuid + " boots: local", "sanboot"},
		{"escaped colons", "mac=52%3A54%3A12%3A34%3A00%3A01", wire.BootRescue, 200, mac + " ", mac + "  boots: rescue", "RESCUE=1"},
		{"wipe", "mac=" + mac, wire.BootWipe, 200, mac + " ", mac + "  boots: wipe", " initrd=initrd.pxe WIPE=1 SERV=192.168.122.1 ||"},
		{"agent did not start to wipe", "mac=" + mac + "&again=wipe", wire.BootHold, 200, mac + " ", mac + "  could not start the agent; boots: hold", "again=hold"},
		{"hold", "mac=" + mac, wire.BootHold, 200, mac + " ", mac + "  boots: hold", "again=hold"},
		{"still on hold", "mac=" + mac + "&again=hold", wire.BootHold, 200, mac + " ", "", "again=hold"},
		{"no longer on hold", "mac=" + mac + "&again=hold", wire.BootInstall, 200, mac + " ", mac + "  boots: install", "kernel"},
		{"agent did not start", "mac=" + mac + "&again=install", wire.BootInstall, 200, mac + " ", mac + "  could not start the agent; boots: install", "kernel"},
		{"a UUID that would be a command", "mac=" + mac + "&uuid=x%0Ashell", wire.BootInstall, 200, mac + " ", mac + "  boots: install", "kernel"},
		{"no mac", "uuid=" + uuid, wire.BootInstall, 400, "", "", "parameter mac is missing"},
		{"a mac that would be a command", "mac=x%0Ashell", wire.BootInstall, 400, "", "", "parameter mac is missing"},
		{"an action that does not exist", "mac=" + mac, "explode", 500, mac + " ", "", `no boot action "explode"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLab(t)
			l.action = test.action
			resp, body := l.get(t, "GET", "/boot/ipxe?"+test.query)
			if resp.StatusCode != test.status || !strings.Contains(body, test.body) {
				t.Errorf("status %d, body:\n%s\nwant status %d and %q", resp.StatusCode, body, test.status, test.body)
			}
			if strings.Contains(body, "\nshell") {
				t.Errorf("the client wrote a line of its script:\n%s", body)
			}
			if got := strings.Join(l.asked, "\n"); got != test.asked {
				t.Errorf("asked %q, want %q", got, test.asked)
			}
			if got := strings.Join(l.told, "\n"); got != test.told {
				t.Errorf("told %q, want %q", got, test.told)
			}
		})
	}
}

func TestFile(t *testing.T) {
	type answer struct {
		Status       int
		Body, Length string
		Told         string
	}
	for _, test := range []struct {
		name, method, path string
		header             []string
		want               answer
	}{
		{"kernel", "GET", "/boot/file/vmlinuz", nil, answer{200, "the kernel", "10", ""}},
		{"as shim asks", "GET", "/boot/file//vmlinuz", nil, answer{200, "the kernel", "10", ""}},
		{"kernel of a machine", "GET", "/boot/file/vmlinuz?mac=" + mac, nil, answer{200, "the kernel", "10", mac + "  fetched vmlinuz, 10 bytes in 0.0 s"}},
		{"size", "HEAD", "/boot/file/initrd.pxe?mac=" + mac, nil, answer{200, "", "10", ""}},
		{"part", "GET", "/boot/file/vmlinuz?mac=" + mac, []string{"Range", "bytes=4-"}, answer{206, "kernel", "6", ""}},
		{"part beyond the end", "GET", "/boot/file/vmlinuz", []string{"Range", "bytes=100-"}, answer{416, "invalid range: failed to overlap\n", "33", ""}},
		{"missing", "GET", "/boot/file/vmlinux", nil, answer{404, "boot directory: vmlinux: no such file or directory\n", "51", ""}},
		{"missing for a machine", "GET", "/boot/file/vmlinux?mac=" + mac, nil, answer{404, "boot directory: vmlinux: no such file or directory\n", "51",
			mac + "  cannot be served: boot directory: vmlinux: no such file or directory"}},
		{"out of the directory", "GET", "/boot/file/../../etc/passwd", nil, answer{404, "boot directory: ../../etc/passwd: path escapes from parent\n", "59", ""}},
		{"link out of the directory", "GET", "/boot/file/escape", nil, answer{404, "boot directory: escape: path escapes from parent\n", "49", ""}},
		{"the directory itself", "GET", "/boot/file/", nil, answer{404, "404 page not found\n", "19", ""}},
		{"other path", "GET", "/boot/", nil, answer{404, "404 page not found\n", "19", ""}},
		{"upload", "PUT", "/boot/file/vmlinuz", nil, answer{405, "only GET and HEAD are understood here\n", "38", ""}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLab(t)
			resp, body := l.get(t, test.method, test.path, test.header...)
			got := answer{resp.StatusCode, body, resp.Header.Get("Content-Length"), strings.Join(l.told, "\n")}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestBrokenOff: a machine that goes away in the middle of the kernel leaves a
// line in its history.
func TestBrokenOff(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "vmlinuz"), make([]byte, 1000), 0o644); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	var told []string
	h := &httpboot.Handler{Root: root, Log: slog.New(slog.DiscardHandler),
		Notify: func(_, _ string, ip netip.Addr, sentence string) { told = append(told, ip.String()+" "+sentence) }}
	req := httptest.NewRequest("GET", "/boot/file/vmlinuz?mac="+mac, nil)
	req.RemoteAddr = "192.168.122.100:1234"
	h.ServeHTTP(&brokenWriter{httptest.NewRecorder(), 300}, req)
	if diff := cmp.Diff([]string{"192.168.122.100 broke off vmlinuz after 300 of 1000 bytes"}, told); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// brokenWriter fails after some bytes.
type brokenWriter struct {
	*httptest.ResponseRecorder
	left int
}

func (w *brokenWriter) Write(b []byte) (int, error) {
	n := min(len(b), w.left)
	w.left -= n
	if n < len(b) {
		return n, fmt.Errorf("write: %w", io.ErrClosedPipe)
	}
	return n, nil
}
