package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"sync"
	"time"
)

// monitor speaks QEMU's machine protocol (QEMU docs/interop/qmp-spec.rst): one
// JSON object a line. Events between the answers are passed over.
type monitor struct {
	conn net.Conn
	in   *json.Decoder

	mu   sync.Mutex // one command at a time
	last int        // id of the last command; the greeting and events have none
}

// newMonitor asks for command mode.
func newMonitor(ctx context.Context, conn net.Conn) (*monitor, error) {
	m := &monitor{conn: conn, in: json.NewDecoder(conn)}
	return m, m.do(ctx, "qmp_capabilities", map[string]any{})
}

// do runs one command and waits for its answer; arguments are JSON's.
func (m *monitor) do(ctx context.Context, command string, arguments map[string]any) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer context.AfterFunc(ctx, func() { m.conn.SetDeadline(time.Unix(1, 0)) })()
	m.last++
	err := json.NewEncoder(m.conn).Encode(map[string]any{"execute": command, "arguments": arguments, "id": m.last})
	var answer struct {
		ID    int
		Error *struct{ Class, Desc string }
	}
	for err == nil && answer.ID != m.last {
		err = m.in.Decode(&answer)
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("QMP %s: %w", command, context.Cause(ctx))
	case err != nil:
		return fmt.Errorf("QMP %s: the machine has stopped: %w", command, err)
	case answer.Error != nil:
		return fmt.Errorf("QMP %s: %s: %s", command, answer.Error.Class, answer.Error.Desc)
	}
	return nil
}
