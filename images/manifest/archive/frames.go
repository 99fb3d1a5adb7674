package archive

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// An archive is a row of zstd frames (RFC 8878 section 3.1) of which each says
// its size and none needs another. zstd -d takes them for one stream; here they
// are packed and unpacked several at once.
const (
	frameBytes = 4 << 20 // of content, in archives that are written
	maxFrame   = 8 << 20 // larger ones are read as a stream, on one core mostly
	maxPacked  = maxFrame + maxFrame/16
	maxCoders  = 4 // frames that are packed or unpacked at once
)

func coders() int { return min(runtime.GOMAXPROCS(0), maxCoders) }

var errFrame = errors.New("a zstd frame is longer than it can be")

// frame is one on its way from the archive to the reader.
type frame struct {
	packed []byte
	plain  []byte
	err    error         // instead of the frame
	rest   bool          // instead of the frame: what follows must be read as a stream
	ready  chan struct{} // receives when the fields are valid
}

// frames is the content of a row of frames. The frames in free and those in
// queue are all there are, so that memory is bounded.
type frames struct {
	in      *bufio.Reader
	memory  int64 // in bytes, for a stream
	decoder *zstd.Decoder
	free    chan *frame
	queue   chan *frame // in the order of the archive
	stop    context.CancelFunc
	stopped <-chan struct{}
	running sync.WaitGroup

	now    *frame
	left   []byte // of now
	stream io.ReadCloser
	err    error
}

func openFrames(in *bufio.Reader, memory int64) (*frames, error) {
	n := coders()
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(n), zstd.WithDecoderMaxMemory(maxFrame), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return nil, err
	}
	n++ // one more for the reader
	ctx, stop := context.WithCancel(context.Background())
	f := &frames{in: in, memory: memory, decoder: decoder, free: make(chan *frame, n), queue: make(chan *frame, n), stop: stop, stopped: ctx.Done()}
	for range n {
		f.free <- &frame{ready: make(chan struct{}, 1)}
	}
	f.running.Go(f.divide)
	return f, nil
}

// divide reads the frames one after the other and has each unpacked.
func (f *frames) divide() {
	for {
		var next *frame
		select {
		case next = <-f.free:
		case <-f.stopped:
			return
		}
		next.rest, next.err = next.read(f.in)
		f.queue <- next
		if next.rest || next.err != nil {
			next.ready <- struct{}{}
			return
		}
		f.running.Go(func() {
			next.plain, next.err = f.decoder.DecodeAll(next.packed, next.plain[:0])
			next.ready <- struct{}{}
		})
	}
}

// read takes the next frame, or tells that it is none for this way: without its
// size, too large, skippable or damaged. Then nothing of it was taken.
func (f *frame) read(in *bufio.Reader) (rest bool, err error) {
	head, err := in.Peek(zstd.HeaderMaxSize)
	if len(head) == 0 || err != nil && err != io.EOF {
		return false, err
	}
	var h zstd.Header
	err = h.Decode(head)
	if err != nil || h.Skippable || !h.HasFCS || h.DictionaryID != 0 || max(h.FrameContentSize, h.WindowSize) > maxFrame {
		return true, nil
	}
	if cap(f.plain) < int(h.FrameContentSize) {
		f.plain = make([]byte, 0, h.FrameContentSize)
	}
	return false, f.take(in, &h)
}

// take reads a frame block by block: only the last one tells where it ends.
func (f *frame) take(in *bufio.Reader, h *zstd.Header) error {
	f.packed = f.packed[:0]
	if _, err := f.more(in, h.HeaderSize); err != nil {
		return err
	}
	for last := false; !last; {
		b, err := f.more(in, 3) // Block_Header, RFC 8878 section 3.1.1.2
		if err != nil {
			return err
		}
		const repeated = 1 // RLE_Block: one byte stands for all
		last = b[0]&1 == 1
		size := int(b[0])>>3 | int(b[1])<<5 | int(b[2])<<13
		if b[0]>>1&3 == repeated {
			size = 1
		}
		if _, err := f.more(in, size); err != nil {
			return err
		}
	}
	if h.HasCheckSum {
		_, err := f.more(in, 4)
		return err
	}
	return nil
}

// more reads so many bytes of the frame.
func (f *frame) more(in io.Reader, n int) ([]byte, error) {
	at := len(f.packed)
	if at+n > maxPacked {
		return nil, errFrame
	}
	if at+n > cap(f.packed) {
		grown := make([]byte, at, max(at+n, min(2*cap(f.packed), maxPacked), frameBytes/2))
		copy(grown, f.packed)
		f.packed = grown
	}
	f.packed = f.packed[:at+n]
	_, err := io.ReadFull(in, f.packed[at:])
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return f.packed[at:], err
}

// open reads the rest as a stream. The frames are not needed any more.
func (f *frames) open() (io.ReadCloser, error) {
	f.now = nil
	for len(f.free) > 0 {
		<-f.free
	}
	return openStream(f.in, f.memory, 2)
}

// Read answers the content of the frames.
func (f *frames) Read(p []byte) (int, error) {
	for len(f.left) == 0 {
		if f.stream != nil {
			return f.stream.Read(p)
		}
		if f.err != nil {
			return 0, f.err
		}
		f.err = f.next()
	}
	n := copy(p, f.left)
	f.left = f.left[n:]
	return n, nil
}

// next goes to the next frame.
func (f *frames) next() error {
	if f.now != nil {
		f.free <- f.now
	}
	f.now = <-f.queue
	<-f.now.ready
	f.left = f.now.plain
	switch {
	case f.now.err != nil:
		f.left = nil
		return f.now.err
	case f.now.rest:
		stream, err := f.open()
		if err != nil {
			return err
		}
		f.left, f.stream = nil, stream
	}
	return nil
}

// Close waits until nobody reads from the archive any more.
func (f *frames) Close() error {
	f.stop()
	f.running.Wait()
	f.decoder.Close()
	if f.stream != nil {
		return f.stream.Close()
	}
	return nil
}

// Writer compresses a tar stream to what Open reads fastest: a
// row of zstd frames. The same stream gives the same bytes.
type Writer struct {
	w       io.Writer
	encoder *zstd.Encoder
	content []byte        // not packed yet
	packing []chan []byte // frames, in order; each receives its bytes
	err     error
}

// NewWriter answers a writer that must be closed; that does not close w.
//
// Literals are not entropy coded: an archive grows by 6 % and is unpacked in
// three quarters of the time.
func NewWriter(w io.Writer) (*Writer, error) {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithNoEntropyCompression(true),
		zstd.WithEncoderConcurrency(coders()), zstd.WithWindowSize(frameBytes))
	if err != nil {
		return nil, fmt.Errorf("write archive: %w", err)
	}
	return &Writer{w: w, encoder: e}, nil
}

// Write takes a part of the tar stream.
func (a *Writer) Write(p []byte) (int, error) {
	for n := 0; ; {
		if a.err != nil {
			return n, a.err
		}
		if a.content == nil {
			a.content = make([]byte, 0, frameBytes)
		}
		part := p[n:min(len(p), n+frameBytes-len(a.content))]
		a.content = append(a.content, part...)
		if n += len(part); n == len(p) {
			return n, nil
		}
		a.pack()
		a.err = a.flush(coders())
	}
}

// pack begins to pack what there is.
func (a *Writer) pack() {
	content, packed := a.content, make(chan []byte, 1)
	a.content = nil
	a.packing = append(a.packing, packed)
	go func() { packed <- a.encoder.EncodeAll(content, nil) }()
}

// flush writes frames until at most so many are being packed.
func (a *Writer) flush(most int) error {
	for len(a.packing) > most {
		packed := <-a.packing[0]
		a.packing = a.packing[1:]
		if _, err := a.w.Write(packed); err != nil {
			return fmt.Errorf("write archive: %w", err)
		}
	}
	return nil
}

// Close writes what is left.
func (a *Writer) Close() error {
	if a.err != nil {
		return a.err
	}
	if len(a.content) > 0 {
		a.pack()
	}
	return a.flush(0)
}
