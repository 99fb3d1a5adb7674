package archive

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Memory is about how many bytes of memory Open takes at most:
// windows of zstd --long=26, or several frames at once.
const Memory = 72 << 20

var (
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd} // RFC 8878 section 3.1.1
	gzipMagic = []byte{0x1f, 0x8b}             // RFC 1952 section 2.3.1
	tarMagic  = []byte("ustar")                // POSIX pax, at byte 257
)

// Open answers the tar stream in an archive: zstd, gzip or plain tar,
// told apart by their first bytes. Closing it frees the decoder, not r.
func Open(r io.Reader) (io.ReadCloser, error) { return OpenWithin(r, Memory) }

// OpenWithin is Open for callers with less memory, in bytes; 4 MB
// at least. Archives that need more are an error of Read.
func OpenWithin(r io.Reader, memory int64) (io.ReadCloser, error) {
	in := bufio.NewReaderSize(r, 1<<20)
	head, err := in.Peek(512)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("open archive: %w", err)
	}
	var archive io.ReadCloser
	switch {
	case bytes.HasPrefix(head, zstdMagic) && memory >= Memory:
		archive, err = openFrames(in, memory)
	case bytes.HasPrefix(head, zstdMagic):
		archive, err = openStream(in, memory, 1)
	case bytes.HasPrefix(head, gzipMagic):
		archive, err = gzip.NewReader(in)
	case len(head) == 512 && bytes.HasPrefix(head[257:], tarMagic):
		archive = io.NopCloser(in)
	default:
		err = errors.New("neither zstd nor gzip nor tar data")
	}
	if err != nil {
		return nil, fmt.Errorf("open archive: %w", err)
	}
	return archive, nil
}

// decoderMemory is about what a decoder takes beside its window.
const decoderMemory = 3 << 20

// openStream decompresses any zstd data, on one core mostly.
func openStream(r io.Reader, memory int64, cores int) (io.ReadCloser, error) {
	window := uint64(memory - decoderMemory)
	d, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(window), zstd.WithDecoderMaxMemory(1<<63-1), zstd.WithDecoderConcurrency(cores))
	if err != nil {
		return nil, err
	}
	return stream{d.IOReadCloser(), memory}, nil
}

type stream struct {
	io.ReadCloser
	memory int64
}

func (s stream) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	if errors.Is(err, zstd.ErrWindowSizeExceeded) {
		long := bits.Len64(uint64(s.memory-decoderMemory)) - 1
		err = fmt.Errorf("it takes more than %d MB of memory to unpack, pack it with zstd --long=%d or less: %w", s.memory>>20, long, err)
	}
	return n, err
}
