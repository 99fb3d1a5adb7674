package manifest_test

import (
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"edeploy/images/manifest"
	"edeploy/images/manifest/internal/treetest"
	"edeploy/integration/needs"
)

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
			endless := &treetest.Endless{Text: []byte(test.again)}
			_, err := manifest.ReadWithin(io.MultiReader(strings.NewReader(test.head), endless), 1000, 200_000, 400_000)
			if !errors.Is(err, manifest.ErrInvalid) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %.200v, want ErrInvalid that says %q", err, test.want)
			}
			if endless.Taken > 1<<20 {
				t.Errorf("it read %d bytes", endless.Taken)
			}
		})
	}
}

func TestMeasure(t *testing.T) {
	root := t.TempDir()
	treetest.Hostile(t, root)
	m := treetest.Walk(t, root)
	got, err := manifest.Measure(strings.NewReader(treetest.Text(t, m)))
	treetest.Must(t, err)
	if want := (manifest.Total{Entries: len(m.Entries), Bytes: m.TotalBytes()}); got != want {
		t.Errorf("Measure = %+v, want %+v", got, want)
	}
}

// No text is longer than was thought when its entries were accepted, so that
// what New accepts can be read again, however many bytes are escaped.
func TestTextIsAsLongAsThought(t *testing.T) {
	root := t.TempDir()
	treetest.Hostile(t, root)
	m := treetest.Walk(t, root)
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
	treetest.Must(t, err)
	written, thought := int64(len(treetest.Text(t, m))), m.TextBytes()
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
	treetest.Must(t, err)
	if got := m.TotalBytes(); got != math.MaxInt64 {
		t.Errorf("TotalBytes = %d, want %d", got, int64(math.MaxInt64))
	}
	entries[5].Size++
	if _, err := manifest.New(entries); !errors.Is(err, manifest.ErrInvalid) {
		t.Errorf("New with a file of %d bytes = %v, want ErrInvalid", entries[5].Size, err)
	}
}
