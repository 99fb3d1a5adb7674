package console_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"edeploy/appliance/internal/console"
)

func noon() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

// lineWriter hands every write over and waits until it is taken.
type lineWriter chan string

func (w lineWriter) Write(b []byte) (int, error) {
	w <- string(b)
	return len(b), nil
}

func TestLines(t *testing.T) {
	c := console.New(noon)
	w := make(lineWriter)
	go c.Run(t.Context(), w)
	c.Printf("%s: %s", "db01", "evil\x1b[2J\nname")
	if got, want := <-w, "12:00:00 db01: evil?[2J?name\r\n"; got != want {
		t.Errorf("console line = %q, want %q", got, want)
	}
}

func TestStuckConsoleCostsLinesNotTime(t *testing.T) {
	c := console.New(noon)
	for range 1000 {
		c.Printf("a line nobody reads")
	}
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	go func() {
		defer w.Close()
		c.Run(ctx, w)
	}()
	buf := make([]byte, 100)
	n, err := r.Read(buf)
	if err != nil || !strings.Contains(string(buf[:n]), "744 lines lost") {
		t.Errorf("first line = %q, %v; want it to tell of the 744 lost lines", buf[:n], err)
	}
	cancel()
	io.Copy(io.Discard, r)
}
