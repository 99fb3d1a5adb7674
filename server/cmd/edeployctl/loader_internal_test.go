package main

import (
	"testing"

	"edeploy/server/api"
)

// TestLoader: what the list and the page of a machine say about its loaders.
func TestLoader(t *testing.T) {
	pxe := api.FirmwareLoader{MAC: "02:00:00:00:00:01", Firmware: "uefi-x64", Works: "ipxe-native", Next: "ipxe-native"}
	web := api.FirmwareLoader{MAC: "02:00:00:00:00:01", Firmware: "uefi-x64-http", Failed: []string{"ipxe", "ipxe-native"}, Next: "grub"}
	for _, test := range []struct {
		name        string
		m           api.Machine
		short, long string
	}{
		{"an older server", api.Machine{}, "-", ""},
		{"nothing is known", api.Machine{Loader: "auto"}, "-", ""},
		{"pinned", api.Machine{Loader: "http"}, "http", "http"},
		{"one works", api.Machine{Loader: "auto", Loaders: []api.FirmwareLoader{pxe}}, "ipxe-native",
			"auto\n02:00:00:00:00:01 uefi-x64: next ipxe-native, works ipxe-native"},
		{"two kinds", api.Machine{Loader: "grub", Loaders: []api.FirmwareLoader{pxe, web}}, "grub",
			"grub\n02:00:00:00:00:01 uefi-x64: next ipxe-native, works ipxe-native\n02:00:00:00:00:01 uefi-x64-http: next grub, failed ipxe ipxe-native"},
		{"two kinds, none pinned", api.Machine{Loader: "auto", Loaders: []api.FirmwareLoader{pxe, web, pxe}}, "ipxe-native,grub", "auto\n" +
			"02:00:00:00:00:01 uefi-x64: next ipxe-native, works ipxe-native\n02:00:00:00:00:01 uefi-x64-http: next grub, failed ipxe ipxe-native\n02:00:00:00:00:01 uefi-x64: next ipxe-native, works ipxe-native"},
	} {
		if got := loader(test.m); got != test.short {
			t.Errorf("%s: list says %q, want %q", test.name, got, test.short)
		}
		if got := loaders(test.m); got != test.long {
			t.Errorf("%s: page says %q, want %q", test.name, got, test.long)
		}
	}
}
