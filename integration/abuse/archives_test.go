package abuse_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"
)

// pack compresses what write writes.
func pack(write func(w io.Writer), options ...zstd.EOption) []byte {
	var out bytes.Buffer
	z, err := zstd.NewWriter(&out, options...)
	if err != nil {
		panic(err) // the options are constants
	}
	write(z)
	z.Close() // a buffer does not fail
	return out.Bytes()
}

// deepTar holds one file, half a million directories down.
func deepTar() []byte {
	return pack(func(w io.Writer) {
		t := tar.NewWriter(w)
		t.WriteHeader(&tar.Header{Name: strings.Repeat("a/", 500_000) + "f", Mode: 0o644, Format: tar.FormatPAX})
		t.Close()
	})
}

// zeros is a tar with a file of n zero bytes, which become few.
func zeros(n int64) []byte {
	const part = 64 << 20
	header := pack(func(w io.Writer) {
		tar.NewWriter(w).WriteHeader(&tar.Header{Name: "pre", Mode: 0o755, Size: n, Format: tar.FormatPAX})
	})
	frame := pack(func(w io.Writer) { w.Write(make([]byte, part)) })
	return append(header, bytes.Repeat(frame, int(n/part))...)
}

// block is a header of ustar(5).
func block(name string, kind byte, size int) []byte {
	b := make([]byte, 512)
	copy(b, name)
	copy(b[100:], "0000644\x000000000\x000000000\x00")
	copy(b[124:], fmt.Sprintf("%011o\x00%011o\x00", size, 0))
	copy(b[148:], "        ")
	b[156] = kind
	copy(b[257:], "ustar\x0000")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

// padded fills up to whole blocks.
func padded(text string) []byte {
	return append([]byte(text), make([]byte, (512-len(text)%512)%512)...)
}

// record is one of a PAX header: its length counts itself.
func record(key, value string) string {
	n := len(key) + len(value) + 3
	for len(fmt.Sprint(n))+len(key)+len(value)+3 != n {
		n++
	}
	return fmt.Sprintf("%d %s=%s\n", n, key, value)
}

// sparseTar holds a file of n bytes that is one hole (GNU tar, "PAX format,
// version 1.0").
func sparseTar(n int64) []byte {
	pax := record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") +
		record("GNU.sparse.name", "pre") + record("GNU.sparse.realsize", fmt.Sprint(n))
	var out []byte
	out = append(out, block("PaxHeaders/pre", 'x', len(pax))...)
	out = append(out, padded(pax)...)
	const noData = "0\n"
	out = append(out, block("GNUSparseFile.0/pre", '0', 512)...)
	out = append(out, padded(noData)...)
	return append(out, make([]byte, 1024)...)
}

// trickling is a body that stops before its last byte.
type trickling struct {
	ctx  context.Context
	rest []byte
}

func (t *trickling) Read(p []byte) (int, error) {
	if len(t.rest) == 1 {
		<-t.ctx.Done()
		return 0, t.ctx.Err()
	}
	n := copy(p, t.rest[:len(t.rest)-1])
	t.rest = t.rest[n:]
	return n, nil
}

// wideWindows sends metadata that need much memory to be unpacked, and holds
// it.
func wideWindows(ctx context.Context, p *peer) error {
	body := pack(func(w io.Writer) {
		tar.NewWriter(w).WriteHeader(&tar.Header{Name: "pre", Mode: 0o755, Size: 1 << 30, Format: tar.FormatPAX})
		for range 3 {
			w.Write(make([]byte, 64<<20))
		}
	}, zstd.WithWindowSize(128<<20))
	var group errgroup.Group
	for i := range 8 {
		group.Go(func() error {
			for ctx.Err() == nil { // refused ones come again
				_, _ = p.send(ctx, "PUT", fmt.Sprintf("/api/v1/images/V1/base/metadata/W%d", i), &trickling{ctx, body})
			}
			return nil
		})
	}
	time.AfterFunc(2*time.Second, p.ready)
	return group.Wait()
}

// bring uploads a whole part, in whatever state its upload is.
func (p *peer) bring(ctx context.Context, path string, content []byte) (status int, err error) {
	sum := sha256.Sum256(content)
	return p.patch(ctx, path, 0, int64(len(content)), hex.EncodeToString(sum[:]), &paced{bytes.NewReader(content)})
}

// paced is a body that leaves room on the wire: a flood of packets is no attack
// that a daemon can do anything about.
type paced struct{ io.Reader }

func (p *paced) Read(b []byte) (int, error) {
	time.Sleep(time.Millisecond)
	return p.Reader.Read(b[:min(len(b), 64<<10)])
}

// longArchive holds names that need four times their length in a manifest. It
// takes seconds to make, so it is made before the others are watched.
var longArchive = sync.OnceValue(func() []byte {
	return pack(func(w io.Writer) {
		t := tar.NewWriter(w)
		for i := range 200_000 {
			name := fmt.Sprintf("%s%06d", strings.Repeat("\x01", 240), i)
			t.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Typeflag: tar.TypeDir, Format: tar.FormatPAX})
		}
		t.Close()
	}, zstd.WithEncoderLevel(zstd.SpeedFastest))
})

// longManifest publishes such an archive.
func longManifest(ctx context.Context, p *peer) error {
	if _, err := p.bring(ctx, "/api/v1/images/L1/role/archive", longArchive()); err != nil {
		return nil // refused is what should be
	}
	p.ready()
	_, _ = p.send(ctx, "POST", "/api/v1/images/L1/role/publish", nil)
	return nil
}

// manyManifests brings long manifests and makes the daemon look at them.
func manyManifests(ctx context.Context, p *peer) error {
	line := "./%07d type=file mode=0644 uid=0 gid=0 nlink=1 size=1 time=0.0 sha256digest=" + noSum + " xattr.user.x=" + strings.Repeat("QUFB", 40) + "\n"
	var text bytes.Buffer
	text.WriteString("#mtree\n. type=dir mode=0755 uid=0 gid=0 time=0.0\n")
	for i := 0; text.Len() < 127<<20; i++ {
		fmt.Fprintf(&text, line, i)
	}
	looked := p.readyAfter(3)
	var group errgroup.Group
	for i := range 3 {
		group.Go(func() error {
			path := fmt.Sprintf("/api/v1/images/M%d/role/", i)
			if _, err := p.bring(ctx, path+"manifest", text.Bytes()); err != nil {
				return nil // refused is what should be
			}
			for n := int64(0); ctx.Err() == nil; n++ {
				status, _ := p.patch(ctx, path+"archive", n, 1000, noSum, strings.NewReader("-"))
				looked()
				if status >= 400 {
					n--
					time.Sleep(10 * time.Millisecond)
				}
			}
			return nil
		})
	}
	return group.Wait()
}
