package manifest_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"edeploy/images/manifest"
	"edeploy/integration/needs"
)

// forever answers the same bytes again and again.
type forever struct {
	text []byte
	at   int
	read int64
}

func (f *forever) Read(p []byte) (int, error) {
	for n := 0; n < len(p); {
		c := copy(p[n:], f.text[f.at:])
		n += c
		f.at = (f.at + c) % len(f.text)
	}
	f.read += int64(len(p))
	return len(p), nil
}

// Text without end is given up while it is read, whatever it makes of few bytes.
func TestReadWithoutEnd(t *testing.T) {
	const root = "#mtree\n. type=dir mode=0755 uid=0 gid=0 time=1.0\n"
	set := root + "/set type=fifo mode=0 uid=0 gid=0 time=1.0"
	for name, test := range map[string]struct{ head, again, want string }{
		"comments":     {root, "# no end\n", "longer than 400000 bytes"},
		"no line end":  {root, "x", "longer than 400000 bytes"},
		"short lines":  {set + "\n", "a\n", "more than 1000 entries"},
		"inherited":    {set + " xattr.user.x=" + strings.Repeat("AAAA", 250) + "\n", "a\n", "more than 200000 bytes of paths and attributes"},
		"descending":   {strings.Replace(set, "fifo", "dir", 1) + "\n", "a\n", "more than 256 names"},
		"escaped text": {set + "\n", `./` + strings.Repeat(`\n`, 200) + strings.Repeat(`/\n`, 200) + "\n", "more than 400000 bytes of text"},
	} {
		t.Run(name, func(t *testing.T) {
			endless := &forever{text: []byte(test.again)}
			_, err := manifest.ReadWithin(io.MultiReader(strings.NewReader(test.head), endless), 1000, 200_000, 400_000)
			if !errors.Is(err, manifest.ErrInvalid) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %.200v, want ErrInvalid that says %q", err, test.want)
			}
			if endless.read > 1<<20 {
				t.Errorf("it read %d bytes", endless.read)
			}
		})
	}
}

func TestMeasure(t *testing.T) {
	root := t.TempDir()
	hostileTree(t, root)
	m := walk(t, root)
	got, err := manifest.Measure(strings.NewReader(text(t, m)))
	must(t, err)
	if want := (manifest.Total{Entries: len(m.Entries), Bytes: m.TotalBytes()}); got != want {
		t.Errorf("Measure = %+v, want %+v", got, want)
	}
}

// No text is longer than was thought when its entries were accepted, so that
// what New accepts can be read again, however many bytes are escaped.
func TestTextIsAsLongAsThought(t *testing.T) {
	root := t.TempDir()
	hostileTree(t, root)
	m := walk(t, root)
	random := rand.New(rand.NewPCG(needs.Seed(t), 1))
	for i := range 500 {
		name := make([]byte, 1+random.IntN(255))
		for j := range name {
			name[j] = byte(random.IntN(256))
		}
		path := strings.NewReplacer("/", "_", "\x00", "_").Replace(string(name))
		e := manifest.Entry{Path: path + fmt.Sprint(i), Type: manifest.Symlink, Link: path, Group: 1000 * random.IntN(3), UID: random.Uint32(), GID: random.Uint32(),
			ModTime: time.Unix(random.Int64N(1<<40), random.Int64N(1e9)), Xattrs: map[string][]byte{path: name}}
		if e.Group != 0 { // names of one file
			e = manifest.Entry{Path: e.Path, Type: manifest.Fifo, Group: e.Group}
		}
		if len(e.Path) <= 255 {
			m.Entries = append(m.Entries, e)
		}
	}
	m, err := manifest.New(m.Entries)
	must(t, err)
	written, thought := int64(len(text(t, m))), m.TextBytes()
	if written > thought || written < thought*8/10 {
		t.Errorf("the text has %d bytes, thought were %d", written, thought)
	}
}

func TestSizesDoNotOverflow(t *testing.T) {
	entries := []manifest.Entry{{Path: ".", Type: manifest.Dir}}
	for i := range 10_000 {
		entries = append(entries, manifest.Entry{Path: fmt.Sprint(i), Type: manifest.File, Size: manifest.MaxFileBytes})
	}
	m, err := manifest.New(entries)
	must(t, err)
	if got := m.TotalBytes(); got != math.MaxInt64 {
		t.Errorf("TotalBytes = %d, want %d", got, int64(math.MaxInt64))
	}
	entries[5].Size++
	if _, err := manifest.New(entries); !errors.Is(err, manifest.ErrInvalid) {
		t.Errorf("New with a file of %d bytes = %v, want ErrInvalid", entries[5].Size, err)
	}
}

// Archives are bounded in names, in directories that they only imply, in
// headers and in content, holes included, and nothing is made beyond that.
func TestExtractIsBounded(t *testing.T) {
	long := func(n int) member { return file(strings.Repeat("d/", n) + "x") }
	pax := tar.Header{Typeflag: tar.TypeReg, Name: "a", Format: tar.FormatPAX, PAXRecords: map[string]string{"comment.x": strings.Repeat("x", 900<<10)}}
	for name, test := range map[string]struct {
		archive io.Reader
		want    string
	}{
		"too deep":    {bytes.NewReader(tarOf(t, long(manifest.MaxDepth))), "more than 256 names"},
		"implied":     {bytes.NewReader(tarOf(t, long(60), file("e/"+strings.Repeat("d/", 60)+"x"))), "more than 100 entries"},
		"sparse":      {bytes.NewReader(sparse(t, 5<<30)), "more than 1048576 bytes"},
		"large":       {bytes.NewReader(sparse(t, 1<<52)), "size"},
		"pax records": {&forever{text: headersOf(t, pax)}, "MB of headers"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			_, err := manifest.Extract(t.Context(), test.archive, root, manifest.Options{MaxBytes: 1 << 20, MaxEntries: 100})
			if !errors.Is(err, manifest.ErrInvalid) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Extract = %.300v, want ErrInvalid that says %q", err, test.want)
			}
			made, err := os.ReadDir(root)
			must(t, err)
			if name != "implied" && len(made) > 0 {
				t.Errorf("it made %v", made)
			}
		})
	}
	must(t, func() error {
		_, err := manifest.Extract(t.Context(), bytes.NewReader(tarOf(t, long(manifest.MaxDepth-1))), t.TempDir(), manifest.Options{})
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
	must(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "x", Size: int64(text.Len())}))
	_, err := io.WriteString(w, text.String())
	must(t, err)
	must(t, w.Flush())
	b.Bytes()[156] = tar.TypeXHeader
	reseal(b.Bytes()[:512])
	must(t, w.WriteHeader(&h))
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
	must(t, tar.NewWriter(&b).WriteHeader(&h))
	return b.Bytes()[:b.Len()-512]
}
