package tftp_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMade: what is made for who asks comes before files, whole, with its size.
func TestMade(t *testing.T) {
	s := serve(t, 0, map[string][]byte{"grub/grub.cfg": []byte("a file"), "grub/other": []byte("another")})
	for name, want := range map[string]string{"/grub/grub.cfg": made, "grub/grub.cfg": made, "/grub/other": "another"} {
		if got := dial(t).fetch(s.addr, name, 1024); string(got) != want {
			t.Errorf("%s: %d bytes, want %d", name, len(got), len(want))
		}
	}
	c := dial(t)
	c.ask(s.addr, opRead, "/grub/grub.cfg", "octet", "tsize", "0")
	if op, rest := c.reply(soon); op != opOptions || string(rest) != "tsize\x001500\x00" {
		t.Errorf("answer %d %q, want its size", op, rest)
	}
	c.say(opError, 0, "enough")
}

// TestSizeProbe: OVMF asks for the size, breaks off, and asks again for the
// file; that is no failure.
func TestSizeProbe(t *testing.T) {
	loader := random(3000)
	s := serve(t, 0, map[string][]byte{"snponly.efi": loader})
	c := dial(t)
	c.ask(s.addr, opRead, "snponly.efi", "octet", "tsize", "0", "blksize", "1468", "windowsize", "4")
	op, rest := c.reply(soon)
	if op != opOptions || !bytes.Contains(rest, []byte("tsize\x003000\x00")) || !bytes.Contains(rest, []byte("blksize\x001468\x00")) {
		t.Fatalf("answer %d %q, want the options tsize 3000 and blksize 1468", op, rest)
	}
	c.say(opError, 8, "User aborted the transfer")

	c = dial(t)
	c.ask(s.addr, opRead, "snponly.efi", "octet", "blksize", "1468")
	if op, _ := c.reply(soon); op != opOptions {
		t.Fatalf("second answer %d, want the options", op)
	}
	c.say(opAck, 0, "")
	var got []byte
	for number := uint16(1); ; number++ {
		op, rest := c.reply(soon)
		if op != opData || binary.BigEndian.Uint16(rest) != number {
			t.Fatalf("answer %d %q, want block %d", op, rest, number)
		}
		c.say(opAck, number, "")
		got = append(got, rest[2:]...)
		if len(rest) < 2+1468 {
			break
		}
	}
	if !bytes.Equal(got, loader) {
		t.Error("the file is not the same")
	}
	select {
	case <-s.ended:
	case <-time.After(soon):
		t.Fatal("the end of the transfer is not reported")
	}
	s.awaitLog(t, "TFTP size asked")
	if log := s.log.String(); strings.Contains(log, "level=WARN") || strings.Contains(log, "level=ERROR") {
		t.Errorf("log frightens users:\n%s", log)
	}
}

// TestNames: what firmware makes of file names, and what is refused.
func TestNames(t *testing.T) {
	s := serve(t, 0, map[string][]byte{"loader": []byte("content"), "sub/loader": []byte("other")})
	if err := os.Symlink("/etc/passwd", filepath.Join(s.dir, "escape")); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, want, refusal string }{
		{"loader", "content", ""},
		{"/loader", "content", ""},
		{"loader\xff", "content", ""},
		{`\sub\loader`, "other", ""},
		{"missing", "", "no such file"},
		{"sub", "", "not a file"},
		{"../../../../etc/passwd", "", "escapes"},
		{"/etc/passwd", "", "no such file"},
		{"escape", "", "escapes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := dial(t)
			c.ask(s.addr, opRead, test.name, "octet")
			op, rest := c.reply(soon)
			if test.refusal != "" {
				if op != opError || !bytes.Contains(rest, []byte(test.refusal)) {
					t.Errorf("answer %d %q, want an error with %q", op, rest, test.refusal)
				}
				return
			}
			if op != opData || string(rest[2:]) != test.want {
				t.Errorf("answer %d %q, want %q", op, rest, test.want)
			}
			c.say(opAck, 1, "")
		})
	}
}

// TestNotARead: writes and malformed requests are refused in words, other
// packets are passed over (an error must not answer an error).
func TestNotARead(t *testing.T) {
	s := serve(t, 0, map[string][]byte{"loader": []byte("content")})
	c := dial(t)
	c.ask(s.addr, opWrite, "loader", "octet")
	if op, rest := c.reply(soon); op != opError || !bytes.Contains(rest, []byte("read-only")) {
		t.Errorf("write: answer %d %q, want an error", op, rest)
	}
	c.ask(s.addr, opRead, "no mode")
	if op, rest := c.reply(soon); op != opError || !bytes.Contains(rest, []byte("malformed")) {
		t.Errorf("malformed request: answer %d %q, want an error", op, rest)
	}
	for _, packet := range [][]byte{{}, {0}, {0, 5, 0, 0, 0}, {0, 4, 0, 1}, {9, 9}, bytes.Repeat([]byte{0xff}, 600)} {
		c.WriteToUDPAddrPort(packet, s.addr)
	}
	c.ask(s.addr, opRead, "loader", "octet")
	if op, rest := c.reply(soon); op != opData || string(rest[2:]) != "content" {
		t.Errorf("after garbage: answer %d %q, want the file", op, rest)
	}
	c.say(opAck, 1, "")
}

// TestOptionNames: case does not count, nor do options that are not known.
func TestOptionNames(t *testing.T) {
	s := serve(t, 0, map[string][]byte{"loader": random(3000)})
	for _, test := range []struct {
		options []string
		want    string
	}{
		{[]string{"BLKSIZE", "1024"}, "blksize\x001024\x00"},
		{[]string{"TSize", "0", "multicast", ""}, "tsize\x003000\x00"},
		{[]string{"blksize", "600", "blksize", "512"}, "blksize\x00600\x00"},
		{[]string{"blksize", "8", "tsize", "0"}, "tsize\x003000\x00"},
		{[]string{"blksize", "many", "tsize", "0"}, "tsize\x003000\x00"},
	} {
		c := dial(t)
		c.ask(s.addr, opRead, append([]string{"loader", "OCTET"}, test.options...)...)
		if op, rest := c.reply(soon); op != opOptions || string(rest) != test.want {
			t.Errorf("%q: answer %d %q, want the options %q", test.options, op, rest, test.want)
		}
		c.say(opError, 0, "enough")
	}
}
