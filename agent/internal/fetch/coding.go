package fetch

import (
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// zstdWindow bounds the memory that compressed content can ask for (RFC 8878
// section 3.1.1.1.2 recommends that decoders take windows of 8 MB).
const zstdWindow = 8 << 20

// decoders are used again: most files are small.
var decoders sync.Pool

func decoder(r io.Reader) (*zstd.Decoder, error) {
	if d, ok := decoders.Get().(*zstd.Decoder); ok {
		return d, d.Reset(r)
	}
	return zstd.NewReader(r, zstd.WithDecoderMaxWindow(zstdWindow), zstd.WithDecoderConcurrency(1))
}

// release must come before what the decoder reads from is closed.
func release(d *zstd.Decoder) {
	if d.Reset(nil) == nil {
		decoders.Put(d)
	}
}
