package initramfs_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"edeploy/images/manifest/initramfs"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
)

// segment is a cpio archive of empty files.
func segment(names ...string) string {
	var s strings.Builder
	for _, name := range append(names, "TRAILER!!!") {
		fmt.Fprintf(&s, "070701%s%08x%s%s\x00", strings.Repeat("0", 8*11), len(name)+1, strings.Repeat("0", 8), name)
		s.WriteString(strings.Repeat("\x00", -s.Len()&3))
	}
	return s.String()
}

func packed(t testing.TB, text string) string {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(w.EncodeAll([]byte(text), nil))
}

func TestRead(t *testing.T) {
	micro := segment("kernel/x86/microcode/GenuineIntel.bin") + strings.Repeat("\x00", 300)
	for _, test := range []struct {
		name, text string
		want       []string // without end marks
		err        string
	}{
		{"plain", segment("init", "bin"), []string{"bin", "init"}, ""},
		{"microcode before it", micro + packed(t, segment("./init")), []string{"init", "kernel/x86/microcode/GenuineIntel.bin"}, ""},
		{"nothing", "", nil, ""},
		{"something else", "i", nil, "neither zstd nor gzip"},
		{"packed something else", packed(t, "x"), nil, "it is not an initramfs"},
		{"cut short", segment("init")[:50], nil, "EOF"},
	} {
		t.Run(test.name, func(t *testing.T) {
			names, err := initramfs.Read(strings.NewReader(test.text))
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Fatalf("error %v, want %q", err, test.err)
			}
			delete(names, "TRAILER!!!")
			if diff := cmp.Diff(test.want, slices.Sorted(maps.Keys(names))); err == nil && diff != "" {
				t.Errorf("names (-want +got):\n%s", diff)
			}
		})
	}
}

func TestModules(t *testing.T) {
	paths := []string{"usr/lib/modules/6.1/kernel/fs/xfs/xfs.ko", "kernel/drivers/ata/sata-mv.ko.xz", "kernel/drivers/block/virtio_blk.ko.zst", "etc/x.kone", "scripts/local"}
	got := slices.Sorted(maps.Keys(initramfs.Modules(slices.Values(paths))))
	if diff := cmp.Diff([]string{"sata_mv", "virtio_blk", "xfs"}, got); diff != "" {
		t.Errorf("modules (-want +got):\n%s", diff)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(segment("usr/sbin/edeploy")))
	f.Add([]byte("070701" + strings.Repeat("f", 104)))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		names, err := initramfs.Read(bytes.NewReader(b))
		if err == nil && len(bytes.TrimLeft(b, "\x00")) > 0 && len(names) == 0 {
			t.Error("an initramfs without a name, not even the end mark, is accepted")
		}
	})
}
