package lab

import (
	"bufio"
	"encoding/binary"
	"io"
	"sync"
	"time"
)

// Sizes of a capture. A story moves role trees of hundreds of megabytes, and
// what one wants to read of them later are the headers: once a capture holds
// wholeBytes, only the first headerBytes of a frame are kept; at mostBytes it
// ends.
const (
	snapBytes   = 1 << 16
	wholeBytes  = 64 << 20
	headerBytes = 128
	mostBytes   = 1 << 30
)

// capture writes frames as a libpcap file (draft-ietf-opsawg-pcap, magic
// 0xa1b2c3d4: microseconds).
type capture struct {
	mu      sync.Mutex
	file    io.WriteCloser
	out     *bufio.Writer
	written int64
	flushed time.Time
	err     error // the first one; the capture has ended
}

func newCapture(file io.WriteCloser) (*capture, error) {
	c := &capture{file: file, out: bufio.NewWriterSize(file, 1<<16)}
	const version, ethernet = 2 | 4<<16, 1 // 2.4; LINKTYPE_ETHERNET
	c.numbers(0xa1b2c3d4, version, 0, 0, snapBytes, ethernet)
	return c, c.flush()
}

func (c *capture) frame(at time.Time, frame []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.written > mostBytes {
		return
	}
	kept := frame[:min(len(frame), snapBytes)]
	if c.written > wholeBytes {
		kept = frame[:min(len(frame), headerBytes)]
	}
	c.numbers(uint32(at.Unix()), uint32(at.Nanosecond()/1000), uint32(len(kept)), uint32(len(frame)))
	c.write(kept)
	// It can be read while the hub runs.
	if at.Sub(c.flushed) >= time.Second && c.err == nil {
		c.flushed, c.err = at, c.out.Flush()
	}
}

func (c *capture) numbers(numbers ...uint32) {
	var head []byte
	for _, n := range numbers {
		head = binary.LittleEndian.AppendUint32(head, n)
	}
	c.write(head)
}

func (c *capture) write(b []byte) {
	if c.err != nil {
		return
	}
	n, err := c.out.Write(b)
	c.written += int64(n)
	c.err = err
}

func (c *capture) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = c.out.Flush()
	}
	return c.err
}

func (c *capture) close() error {
	err := c.flush()
	if closing := c.file.Close(); err == nil {
		err = closing
	}
	return err
}
