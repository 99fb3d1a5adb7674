package grubcfg_test

import (
	"testing"

	"edeploy/agent/internal/grubcfg"

	"github.com/google/go-cmp/cmp"
)

func TestKernels(t *testing.T) {
	const config = `set default=0
menuentry 'Debian' --class debian {
	linux	/boot/vmlinuz-2 root=UUID=1 ds=nocloud\;s=x
	initrd	/boot/ucode /boot/initrd-2
}
submenu 'Advanced' {
	menuentry 'either' {
		initrd /before/any/kernel
		if true; then {
			linux /boot/a
		}
		linux16 /boot/b ro
		initrd16 /boot/initrd-b
	}
}
linux
linuxefi /loose
menuentry 'cut' {
	linux /boot/cut
`
	want := []grubcfg.Kernel{
		{Image: "/boot/vmlinuz-2", Arguments: []string{"root=UUID=1", "ds=nocloud;s=x"}, Initrds: []string{"/boot/ucode", "/boot/initrd-2"},
			Entry: []string{"linux\t/boot/vmlinuz-2 root=UUID=1 ds=nocloud\\;s=x", "initrd\t/boot/ucode /boot/initrd-2"}},
		{Image: "/boot/a", Arguments: []string{}},
		{Image: "/boot/b", Arguments: []string{"ro"}, Initrds: []string{"/boot/initrd-b"}},
		{Image: "/loose", Arguments: []string{}},
		{Image: "/boot/cut", Arguments: []string{}},
	}
	either := []string{"initrd /before/any/kernel", "if true; then {", "linux /boot/a", "}", "linux16 /boot/b ro", "initrd16 /boot/initrd-b"}
	want[1].Entry, want[2].Entry = either, either
	if diff := cmp.Diff(want, grubcfg.Kernels(config)); diff != "" {
		t.Errorf("kernels (-want +got):\n%s", diff)
	}
}
