package archive_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"edeploy/images/manifest/archive"
	"edeploy/images/manifest/internal/treetest"
	"edeploy/integration/needs"

	"github.com/klauspost/compress/zstd"
)

const frameBytes = 4 << 20

// compressible is so many bytes of something between text and noise.
func compressible(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	var block []byte
	for len(block) < 200_000 {
		block = append(block, "usr/share/doc/"...)
		block = append(block, byte(r.Uint32()), byte(r.Uint32()))
	}
	var b []byte
	for i := 0; len(b) < n; i++ {
		b = append(strconv.AppendInt(b, int64(i), 36), block[i%1000:]...)
	}
	return b[:n]
}

// packed is a tar stream (or anything else) as Writer compresses it, written in pieces.
func packed(t testing.TB, content []byte, piece int) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := archive.NewWriter(&out)
	treetest.Must(t, err)
	for rest := content; len(rest) > 0; {
		n, err := w.Write(rest[:min(piece, len(rest))])
		treetest.Must(t, err)
		rest = rest[n:]
	}
	treetest.Must(t, w.Close())
	return out.Bytes()
}

func unpacked(r io.Reader) ([]byte, error) {
	a, err := archive.Open(r)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	return io.ReadAll(a)
}

func TestWriter(t *testing.T) {
	for _, size := range []int{1, frameBytes - 1, frameBytes, frameBytes + 1, 3*frameBytes + 12345} {
		content := compressible(size)
		data := packed(t, content, 1<<20)
		if got, err := unpacked(bytes.NewReader(data)); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d bytes came back as %d, %v", size, len(got), err)
		}
		if !bytes.Equal(data, packed(t, content, 123_457)) {
			t.Errorf("%d bytes written in other pieces give another archive", size)
		}
	}
}

// What the Debian tool reads is the same.
func TestWriterForZstd(t *testing.T) {
	needs.Program(t, "zstd")
	content := compressible(2*frameBytes + 1)
	cmd := exec.Command("zstd", "-dc")
	cmd.Stdin = bytes.NewReader(packed(t, content, 1<<20))
	got, err := cmd.Output()
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("zstd -dc answered %d bytes, %v, want %d", len(got), err, len(content))
	}
}

type failing struct{ after int }

var errFull = errors.New("full")

func (f *failing) Write(p []byte) (int, error) {
	if f.after--; f.after < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestWriterFails(t *testing.T) {
	content := compressible(5*frameBytes + 1)
	for _, after := range []int{0, 2} {
		w, err := archive.NewWriter(&failing{after})
		treetest.Must(t, err)
		_, err = w.Write(content)
		if closeErr := w.Close(); !errors.Is(errors.Join(err, closeErr), errFull) {
			t.Errorf("after %d frames: Write = %v, Close = %v", after, err, closeErr)
		}
	}
}

// streamed is content as programs write it that do not know its size.
func streamed(t testing.TB, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b)
	treetest.Must(t, err)
	for rest := content; len(rest) > 0; rest = rest[min(len(rest), 1<<20):] {
		_, err := w.Write(rest[:min(len(rest), 1<<20)])
		treetest.Must(t, err)
	}
	treetest.Must(t, w.Close())
	return b.Bytes()
}

// An archive may be a row of frames of any kind.
func TestOpenOfFrames(t *testing.T) {
	a, b := compressible(frameBytes+7), compressible(2*frameBytes+1)
	skippable := append([]byte{0x50, 0x2a, 0x4d, 0x18, 5, 0, 0, 0}, "hello"...) // RFC 8878 section 3.1.2
	large, err := zstd.NewWriter(nil)
	treetest.Must(t, err)
	framesOfA, framesOfB, streamOfB := packed(t, a, 1<<20), packed(t, b, 1<<20), streamed(t, b)
	for _, test := range []struct {
		name string
		data [][]byte
		want [][]byte
	}{
		{"frames", [][]byte{framesOfA, framesOfB}, [][]byte{a, b}},
		{"frames, then a stream", [][]byte{framesOfA, streamOfB}, [][]byte{a, b}},
		{"a stream, then frames", [][]byte{streamOfB, framesOfA}, [][]byte{b, a}},
		{"frames, something to skip, frames", [][]byte{framesOfA, skippable, framesOfB}, [][]byte{a, b}},
		{"a frame larger than is read at once", [][]byte{framesOfA, large.EncodeAll(b, nil), framesOfA}, [][]byte{a, b, a}},
		{"zeros", [][]byte{packed(t, make([]byte, frameBytes+1), 1<<20)}, [][]byte{make([]byte, frameBytes+1)}},
	} {
		data, want := bytes.Join(test.data, nil), bytes.Join(test.want, nil)
		for name, r := range map[string]io.Reader{"at once": bytes.NewReader(data), "in halves": iotest.HalfReader(bytes.NewReader(data))} {
			if got, err := unpacked(r); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s, %s: %d bytes, %v, want %d bytes", test.name, name, len(got), err, len(want))
			}
		}
	}
}

func TestOpenOfDamagedFrames(t *testing.T) {
	data := packed(t, compressible(2*frameBytes), 1<<20)
	changed := bytes.Clone(data)
	changed[len(changed)/3] ^= 1
	// A frame of 16 bytes that goes on for ever in empty blocks: a header with
	// Single_Segment_Flag and one byte of size, and raw blocks of no bytes.
	endless := io.MultiReader(bytes.NewReader([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x20, 16}), zeroReader{})
	lying := bytes.Clone(data)
	lying[6]++ // of Frame_Content_Size, RFC 8878 section 3.1.1.1.4
	broken := errors.New("broken")
	for _, test := range []struct {
		name string
		r    io.Reader
		want string
	}{
		{"cut in a header", bytes.NewReader(data[:5]), "unexpected EOF"},
		{"cut in a block", bytes.NewReader(data[:len(data)/3]), "unexpected EOF"},
		{"cut in the checksum", bytes.NewReader(data[:len(data)-1]), "unexpected EOF"},
		{"lost on the way", io.MultiReader(bytes.NewReader(data[:len(data)/2]), iotest.ErrReader(broken)), "broken"},
		{"changed", bytes.NewReader(changed), ""},
		{"of another size than it says", bytes.NewReader(lying), "size"},
		{"followed by something else", io.MultiReader(bytes.NewReader(data), strings.NewReader(strings.Repeat("rubbish", 99))), "magic"},
		{"endless", endless, "longer than it can be"},
	} {
		if _, err := unpacked(test.r); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// After Close nobody reads from the archive, however much of it was read.
func TestCloseArchiveEarly(t *testing.T) {
	data := bytes.Repeat(packed(t, compressible(frameBytes), 1<<20), 40)
	before := runtime.NumGoroutine()
	for _, read := range []int{0, 1, frameBytes, 5*frameBytes + 1} {
		in := bytes.NewReader(data)
		a, err := archive.Open(in)
		treetest.Must(t, err)
		_, err = io.CopyN(io.Discard, a, int64(read))
		treetest.Must(t, err)
		treetest.Must(t, a.Close())
		if in.Len() == 0 {
			t.Errorf("all of the archive was taken when %d bytes were read of it", read)
		}
	}
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}

// What is answered without an error is what the library's own stream answers.
func FuzzOpen(f *testing.F) {
	small := packed(f, compressible(5000), 5000)
	f.Add(small)
	f.Add(append(bytes.Clone(small), small...))
	f.Add(append(bytes.Clone(small), streamed(f, compressible(300))...))
	f.Add(append(bytes.Clone(small), 0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 'x'))
	f.Add(packed(f, make([]byte, 100_000), 5000))
	f.Fuzz(func(t *testing.T, data []byte) {
		if !bytes.HasPrefix(data, small[:4]) {
			return
		}
		const most = 64 << 20
		limited := func(r io.Reader) ([]byte, error) { return io.ReadAll(io.LimitReader(r, most)) }
		a, err := archive.Open(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		got, err := limited(a)
		if err != nil {
			return
		}
		d, err := zstd.NewReader(bytes.NewReader(data), zstd.WithDecoderMaxWindow(archive.Memory-3<<20))
		treetest.Must(t, err)
		defer d.Close()
		if want, err := limited(d); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes, want %d bytes, %v", len(got), len(want), err)
		}
	})
}
