package lab

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
)

// Listen plugs in a port for a program that connects to the unix socket path
// and speaks QEMU's `-netdev stream`: every frame after its length, four bytes,
// most significant first (QEMU net/stream.c). The first connection is served;
// when it ends, so does the port.
func (h *Hub) Listen(name, path string) (*Port, error) {
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("hub %s: listen for %s: %w", h.name, name, err)
	}
	p := h.Port(name)
	context.AfterFunc(p.plugged, func() { l.Close() })
	h.streams.Go(func() { p.serve(l) })
	return p, nil
}

// serve serves the first connection until it or the port ends.
func (p *Port) serve(l net.Listener) {
	defer p.Close()
	conn, err := l.Accept()
	if err != nil {
		return
	}
	l.Close()
	context.AfterFunc(p.plugged, func() { conn.Close() })
	go p.writeStream(conn)
	if err := p.readStream(conn); err != nil && p.plugged.Err() == nil {
		p.hub.log.Warn("a port ended", "port", p.name, "error", err)
	}
}

// readStream puts the program's frames on the wire until the stream ends.
func (p *Port) readStream(r io.Reader) error {
	in := bufio.NewReaderSize(r, 1<<16)
	var head [4]byte
	for {
		if _, err := io.ReadFull(in, head[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("read length of a frame: %w", err)
		}
		size := binary.BigEndian.Uint32(head[:])
		if size > maxFrameBytes {
			return fmt.Errorf("frame of %d bytes is longer than %d", size, maxFrameBytes)
		}
		frame := make([]byte, size)
		if _, err := io.ReadFull(in, frame); err != nil {
			return fmt.Errorf("read frame of %d bytes: %w", size, err)
		}
		p.put(frame)
	}
}

// writeStream hands frames to the program until the port is gone. Frames that
// wait together are written together. A program that stops reading loses
// frames at the queue; the wire goes on.
func (p *Port) writeStream(conn net.Conn) {
	out := bufio.NewWriterSize(conn, 1<<16)
	for {
		select {
		case <-p.plugged.Done():
			return
		case frame := <-p.queue:
			if err := p.writeFrames(out, frame); err != nil {
				conn.Close()
				return
			}
		}
	}
}

func (p *Port) writeFrames(out *bufio.Writer, frame []byte) error {
	for {
		var head [4]byte
		binary.BigEndian.PutUint32(head[:], uint32(len(frame)))
		_, _ = out.Write(head[:]) // the writer keeps an error
		if _, err := out.Write(frame); err != nil {
			return err
		}
		select {
		case frame = <-p.queue:
		default:
			return out.Flush()
		}
	}
}
