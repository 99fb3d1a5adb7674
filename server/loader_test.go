package server_test

import (
	"net/http"
	"strings"
	"testing"

	"edeploy/server/api"
)

// TestPinnedLoader: the operator's loader is kept, also for a machine that nobody
// has seen, and boot services are told it, and the model.
func TestPinnedLoader(t *testing.T) {
	l := newLab(t, seedFiles())
	settings := l.settings()
	settings.Loaders = func(macs []string) (all []api.FirmwareLoader) {
		for _, mac := range macs {
			all = append(all, api.FirmwareLoader{MAC: mac, Firmware: "bios", Works: "ipxe", Next: "ipxe"})
		}
		return all
	}
	l.startWith(settings)
	put := func(id, loader string, want int) {
		t.Helper()
		a := l.do("PUT", "/api/v1/machines/"+id+"/loader", "application/json", strings.NewReader(`{"loader": "`+loader+`"}`))
		if a.status != want {
			t.Fatalf("loader %s of %s: status %d, want %d: %s", loader, id, a.status, want, a.body)
		}
	}
	put(mac(7), "grub", http.StatusOK)
	if got := l.server.Loader(mac(7), ""); got != "grub" {
		t.Errorf("a new machine is pinned to %q", got)
	}
	l.mustGet(vm(1))
	put(idOf(1), "lilo", http.StatusBadRequest)
	put("nobody", "grub", http.StatusNotFound)
	put(idOf(1), "ipxe-native", http.StatusOK)
	if got := l.server.Loader(mac(1), ""); got != "ipxe-native" {
		t.Errorf("it is pinned to %q", got)
	}
	m := l.machine(idOf(1))
	if m.Loader != "ipxe-native" || len(m.Loaders) != 1 || m.Loaders[0].MAC != mac(1) {
		t.Errorf("shown: %s, %+v", m.Loader, m.Loaders)
	}
	if got := l.server.Model(mac(1), ""); got == "" || got != m.Model {
		t.Errorf("its model is %q, shown is %q", got, m.Model)
	}
	put(idOf(1), "auto", http.StatusOK)
	if got := l.server.Loader(mac(1), ""); got != "" || l.machine(idOf(1)).Loader != api.AnyLoader {
		t.Errorf("it is pinned to %q", got)
	}
}
