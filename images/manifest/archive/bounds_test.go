package archive_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"edeploy/images/manifest"
	"edeploy/images/manifest/archive"
	"edeploy/images/manifest/internal/treetest"
)

// Archives are bounded in names, in directories that they only imply, in
// headers and in content, holes included, and nothing is made beyond that.
func TestExtractIsBounded(t *testing.T) {
	long := func(n int) member { return file(strings.Repeat("d/", n) + "x") }
	pax := tar.Header{Typeflag: tar.TypeReg, Name: "a", Format: tar.FormatPAX, PAXRecords: map[string]string{"comment.x": strings.Repeat("x", 900<<10)}}
	for name, test := range map[string]struct {
		packed io.Reader
		want   string
	}{
		"too deep":    {bytes.NewReader(tarOf(t, long(manifest.MaxDepth))), "more than 256 names"},
		"implied":     {bytes.NewReader(tarOf(t, long(60), file("e/"+strings.Repeat("d/", 60)+"x"))), "more than 100 entries"},
		"sparse":      {bytes.NewReader(sparse(t, 5<<30)), "more than 1048576 bytes"},
		"large":       {bytes.NewReader(sparse(t, 1<<52)), "size"},
		"pax records": {&treetest.Endless{Text: headersOf(t, pax)}, "MB of headers"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			_, err := archive.Extract(t.Context(), test.packed, root, archive.Options{MaxBytes: 1 << 20, MaxEntries: 100})
			if !errors.Is(err, manifest.ErrInvalid) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Extract = %.300v, want ErrInvalid that says %q", err, test.want)
			}
			made, err := os.ReadDir(root)
			treetest.Must(t, err)
			if name != "implied" && len(made) > 0 {
				t.Errorf("it made %v", made)
			}
		})
	}
	treetest.Must(t, func() error {
		_, err := archive.Extract(t.Context(), bytes.NewReader(tarOf(t, long(manifest.MaxDepth-1))), t.TempDir(), archive.Options{})
		return err
	}())
}

// sparse is a member of this size with nothing but a hole (GNU tar manual,
// "PAX Format, Version 1.0").
func sparse(t *testing.T, size int64) []byte {
	t.Helper()
	block := make([]byte, 512)
	copy(block, "0\n")
	h := tar.Header{Typeflag: tar.TypeReg, Name: "GNUSparseFile.0/a", Size: 512, Mode: 0o644, Format: tar.FormatPAX}
	records := fmt.Sprintf("GNU.sparse.major=1\nGNU.sparse.minor=0\nGNU.sparse.name=a\nGNU.sparse.realsize=%d\n", size)
	return append(paxMember(t, records, h), block...)
}

// paxMember is a member's header with records that package tar does not write.
func paxMember(t *testing.T, records string, h tar.Header) []byte {
	t.Helper()
	var text strings.Builder
	for line := range strings.Lines(records) {
		n := len(line) + 3
		if n = len(fmt.Sprint(n)) + 1 + len(line); len(fmt.Sprint(n))+1+len(line) != n {
			n = len(fmt.Sprint(n)) + 1 + len(line)
		}
		fmt.Fprintf(&text, "%d %s", n, line)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	treetest.Must(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "x", Size: int64(text.Len())}))
	_, err := io.WriteString(w, text.String())
	treetest.Must(t, err)
	treetest.Must(t, w.Flush())
	b.Bytes()[156] = tar.TypeXHeader
	reseal(b.Bytes()[:512])
	treetest.Must(t, w.WriteHeader(&h))
	return b.Bytes()
}

// reseal writes a header's checksum anew.
func reseal(header []byte) {
	copy(header[148:156], "        ")
	sum := 0
	for _, c := range header {
		sum += int(c)
	}
	copy(header[148:156], fmt.Sprintf("%06o\x00 ", sum))
}

// headersOf is the pax header of a member without the member.
func headersOf(t *testing.T, h tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	treetest.Must(t, tar.NewWriter(&b).WriteHeader(&h))
	return b.Bytes()[:b.Len()-512]
}
