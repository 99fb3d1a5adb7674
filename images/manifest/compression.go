package manifest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
)

// maxWindow bounds the memory that a zstd archive can ask for: that of
// zstd --long=27, the largest its own decoder takes without being told.
const maxWindow = 128 << 20

var (
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd} // RFC 8878 section 3.1.1
	gzipMagic = []byte{0x1f, 0x8b}             // RFC 1952 section 2.3.1
	tarMagic  = []byte("ustar")                // POSIX pax, at byte 257
)

// ErrNoArchive is wrapped by OpenArchive's error for data of another kind.
var ErrNoArchive = errors.New("neither zstd nor gzip nor tar data")

// OpenArchive answers the tar stream in an archive: zstd, gzip or plain tar,
// told apart by their first bytes. Closing it frees the decoder, not r.
func OpenArchive(r io.Reader) (io.ReadCloser, error) {
	in := bufio.NewReaderSize(r, 1<<20)
	head, err := in.Peek(512)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("open archive: %w", err)
	}
	switch {
	case bytes.HasPrefix(head, zstdMagic):
		f, err := openFrames(in)
		if err != nil {
			return nil, fmt.Errorf("open archive: %w", err)
		}
		return f, nil
	case bytes.HasPrefix(head, gzipMagic):
		d, err := gzip.NewReader(in)
		if err != nil {
			return nil, fmt.Errorf("open archive: %w", err)
		}
		return d, nil
	case len(head) == 512 && bytes.HasPrefix(head[257:], tarMagic):
		return io.NopCloser(in), nil
	}
	return nil, fmt.Errorf("open archive: %w", ErrNoArchive)
}
