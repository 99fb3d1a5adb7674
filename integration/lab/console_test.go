package lab_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edeploy/integration/lab"
)

func TestConsoleText(t *testing.T) {
	tests := []struct{ name, said, want string }{
		{"plain", "Linux version 6\r\nok\n", "Linux version 6\nok\n"},
		{"SeaBIOS", "\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS (version 1.16.2)\r\nBooting", "SeaBIOS (version 1.16.2)\nBooting"},
		{"systemd", "[\x1b[0;32m  OK  \x1b[0m] Started \x1b[0;1;39mgetty\x1b[0m.\r\n", "[  OK  ] Started getty.\n"},
		{"GRUB places lines", "\x1b[1;1HGNU GRUB\x1b[3;1H\x1b[4;2H Debian", "GNU GRUB\n Debian"},
		{"title", "\x1b]0;root@host\x07# \x1b]2;x\x1b\\$", "# $"},
		{"character sets", "\x1b(Bx\x1b#8y\x1b=z", "xyz"},
		{"controls", "a\x00\x07b\tc\x7f", "ab\tc"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var log bytes.Buffer
			whole, split := lab.NewConsole(&log), lab.NewConsole(io.Discard)
			whole.Add(test.said)
			for _, b := range []byte(test.said) {
				split.Add(string([]byte{b}))
			}
			for _, got := range []string{whole.Text(), split.Text()} {
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("text (-want +got):\n%s", diff)
				}
			}
			if log.String() != test.said {
				t.Errorf("the log holds %q, want every byte", log.String())
			}
		})
	}
}

func TestConsoleExpect(t *testing.T) {
	c := lab.NewConsole(io.Discard)
	c.Add("step detect done\nstep upload done\nlog")
	for _, want := range []string{"detect", "upload"} {
		match, err := c.Expect(t.Context(), `(?m)^step (\w+) (done)?(xx)?`)
		if diff := cmp.Diff([]string{"step " + want + " done", want, "done", ""}, match); err != nil || diff != "" {
			t.Fatalf("%v (-want +got):\n%s", err, diff)
		}
	}
	later := make(chan error)
	go func() {
		_, err := c.Expect(t.Context(), `host login: $`)
		later <- err
	}()
	for _, part := range []string{"in", ": ", "\r\nhost log", "in: "} {
		c.Add(part)
	}
	if err := <-later; err != nil {
		t.Error(err)
	}
	over, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("two minutes have passed"))
	if _, err := c.Expect(over, "login"); err == nil || err.Error() != "two minutes have passed" {
		t.Errorf("expect what was read already: %v", err)
	}
	c.Add("last words\n\n")
	c.End()
	if _, err := c.Expect(t.Context(), "words"); err != nil {
		t.Errorf("expect what was said before the end: %v", err)
	}
	if _, err := c.Expect(t.Context(), "more"); err == nil {
		t.Error("expect after the end: no error")
	}
	if diff := cmp.Diff([]string{"host login: last words"}, c.LastLines(1)); diff != "" {
		t.Errorf("last lines (-want +got):\n%s", diff)
	}
}

func TestConsoleIsBounded(t *testing.T) {
	c := lab.NewConsole(io.Discard)
	line := strings.Repeat("noise ", 170) + "\n"
	for range 10_000 {
		c.Add(line)
	}
	c.Add("the end\n")
	if n := len(c.Text()); n > 5<<20 {
		t.Errorf("the console keeps %d bytes", n)
	}
	if _, err := c.Expect(t.Context(), "(?m)^the end$"); err != nil {
		t.Error(err)
	}
}

// FuzzConsole gives the console whatever a guest may say.
func FuzzConsole(f *testing.F) {
	f.Add("\x1b[31mred\x1b]0;title\x07\x1b", 3)
	f.Fuzz(func(t *testing.T, said string, cut int) {
		whole, split := lab.NewConsole(io.Discard), lab.NewConsole(io.Discard)
		whole.Add(said)
		cut = max(0, min(cut, len(said)))
		split.Add(said[:cut])
		split.Add(said[cut:])
		if diff := cmp.Diff(whole.Text(), split.Text()); diff != "" {
			t.Errorf("in one piece and in two (-one +two):\n%s", diff)
		}
		if strings.ContainsAny(whole.Text(), "\x1b\r\x00") {
			t.Errorf("%q still holds controls", whole.Text())
		}
	})
}
