package appliance

import (
	"context"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edeploy/server/api"
)

// withBoot is an appliance with boot services that does not run: nothing but
// its handler answers.
func withBoot(t *testing.T, sections string) *Appliance {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"edeploy.conf": "[SERVER]\nCONFIGDIR=config\n[NETWORK]\nADDRESS=127.0.0.1/8\n[DHCP]\nRANGE=127.0.0.100-127.0.0.199\n" +
			"[IMAGES]\nTOP=images\n[STATE]\nDIR=server\n[BOOT]\nDIR=boot\n" + sections,
		"config/state": "[]\n", "boot/vmlinuz": "kernel", "images/install/V1/base-V1.edeploy": "archive",
	} {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c, err := ReadConfig(filepath.Join(dir, "edeploy.conf"))
	if err != nil {
		t.Fatal(err)
	}
	var sockets Sockets
	for _, l := range []**net.TCPListener{&sockets.HTTP, &sockets.Rsync} {
		if *l, err = net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { sockets.Close() })
	a, err := New(t.Context(), c, sockets, nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Every path comes to its room, and names that only begin alike do not.
func TestRooms(t *testing.T) {
	a, without := withBoot(t, ""), withBoot(t, "[DHCP]\nENABLED=no\n")
	for _, test := range []struct {
		path   string
		status int
		want   string // in the answer
	}{
		{"/boot/ipxe?mac=52:54:12:34:00:01", 200, "#!ipxe"},
		{"/boot/grub?mac=52:54:12:34:00:01", 200, "set again="},
		{"/grub/x86_64-efi/grub.cfg", 200, "/boot/grub?mac=$net_default_mac"},
		{"/grub/none", 404, ""},
		{"//boot/./file/vmlinuz", 200, "kernel"},
		{"/boot/file/../../server/leases", 404, ""},
		{"/boot/file/none", 404, ""},
		{"/bootx/file/vmlinuz", 404, `"error"`},
		{"/install/V1/base-V1.edeploy", 200, "archive"},
		{"/install/V1/none", 404, ""},
		{"/installed", 404, `"error"`},
		{"/metadata/", 200, ""},
		{"/api/v1/images", 200, `"role":"base"`},
		{"/api/v1/imagesx", 404, `"error"`},
		{"/api/v1/version", 200, `"protocol"`},
		{"/api/v1/machines", 200, "[]"},
		{"/", 404, `"error"`},
	} {
		w := httptest.NewRecorder()
		a.Handler().ServeHTTP(w, httptest.NewRequest("GET", test.path, nil))
		if w.Code != test.status || !strings.Contains(w.Body.String(), test.want) {
			t.Errorf("%s: %d %.200q, want %d and %q", test.path, w.Code, w.Body, test.status, test.want)
		}
	}
	w := httptest.NewRecorder()
	without.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/boot/file/vmlinuz", nil))
	if w.Code != 404 || !strings.Contains(w.Body.String(), `"error"`) {
		t.Errorf("without boot services: %d %s", w.Code, w.Body)
	}
}

// Add-ons of the configuration reach those who ask for them.
func TestAddonsAreKnown(t *testing.T) {
	a := withBoot(t, "ADDONS=python3,megacli/8.07\n")
	for path, want := range map[string]string{
		"/api/v1/version":  `"role": "megacli"`,
		"/api/v1/problems": "the add-on megacli 8.07 of [BOOT] ADDONS, which this appliance has not",
		"/boot/ipxe?mac=52:54:12:34:00:01&manufacturer=a&product=b": "ADDONS=python3,megacli/8.07",
	} {
		w := httptest.NewRecorder()
		a.Handler().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != 200 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %.400q, want %q", path, w.Code, w.Body, want)
		}
	}
}

// What the boot services tell comes to the console: of themselves, and of a
// machine.
func TestBootEvents(t *testing.T) {
	a := withBoot(t, "")
	a.server.Tell(api.Event{Name: a.boot.String(), Status: "note", Message: "the lease file is broken"})
	a.Handler().ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/boot/ipxe?mac=52:54:12:34:00:01", nil))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go a.server.Run(ctx)
	screen := make(screen, 16)
	go a.console.Run(ctx, screen)
	go a.showProgress(ctx)
	for _, want := range []string{"boot services: the lease file is broken", "52:54:12:34:00:01: boot boots: install"} {
		select {
		case line := <-screen:
			if !strings.Contains(line, want) {
				t.Errorf("the console says %q, want %q", line, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("the console does not say %q", want)
		}
	}
}

// screen is a console's lines.
type screen chan string

func (s screen) Write(p []byte) (int, error) {
	s <- string(p)
	return len(p), nil
}

// Which images a machine can install is known when it installs them from here.
func TestOwnImages(t *testing.T) {
	for args, known := range map[string]bool{
		"": true, "ONFAILURE=reboot": true, "SERV=192.0.2.1": true, "RSERV=127.0.0.1": true, "RSERV=192.0.2.1": false, "HSERV=192.0.2.1": false,
	} {
		a := withBoot(t, "ARGS="+args+"\n")
		if refs, err := a.ownImages(); err != nil || len(refs) != 0 || (refs != nil) != known { // the one archive has no manifest
			t.Errorf("ARGS=%s: %#v, %v, want a list = %v", args, refs, err, known)
		}
	}
}
