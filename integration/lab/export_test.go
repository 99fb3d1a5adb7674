package lab

import (
	"context"
	"io"
	"regexp"
)

// What the tests of this package see of its inside.

var (
	ChooseAccel = chooseAccel
	Scale       = scale
	BootSector  = bootSector
	RunProbe    = runProbe
)

// Args is QEMU's command line with fixed plumbing.
func Args(m Machine) ([]string, error) {
	m, err := m.completed()
	if err != nil {
		return nil, err
	}
	p := plumbing{accel: TCG, console: "/s/console", monitor: "/s/monitor", code: "/s/code", vars: "/s/vars", forwarded: map[int]string{22: "127.0.0.1:2222"}}
	for range m.NICs {
		p.wires = append(p.wires, "/s/eth")
	}
	return m.args(p), nil
}

// Console is a console without a machine.
type Console struct{ c *console }

func NewConsole(log io.Writer) Console     { return Console{newConsole(log)} }
func (c Console) Add(text string)          { c.c.add([]byte(text)) }
func (c Console) End()                     { c.c.end() }
func (c Console) LastLines(n int) []string { return c.c.lastLines(n) }
func (c Console) Text() string             { return string(c.c.text) }

func (c Console) Expect(ctx context.Context, pattern string) ([]string, error) {
	return c.c.expect(ctx, regexp.MustCompile(pattern))
}
