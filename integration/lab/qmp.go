package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
)

// monitor speaks QEMU's machine protocol (QEMU docs/interop/qmp-spec.rst): one
// JSON object a line, events between the answers.
type monitor struct {
	conn net.Conn
	turn sync.Mutex // one command at a time
	last int        // id of the last command

	answers chan qmpMessage
	over    chan struct{} // closed when the connection ends

	mu      sync.Mutex
	events  []string      // names in their order, bounded by eventsKept
	seen    int           // where the next await starts
	changed chan struct{} // closed when events grow
}

const eventsKept = 1000

type qmpMessage struct {
	ID       int             `json:"id"`
	Greeting json.RawMessage `json:"QMP"`
	Return   json.RawMessage `json:"return"`
	Event    string          `json:"event"`
	Error    *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
}

// newMonitor takes the greeting and asks for command mode.
func newMonitor(ctx context.Context, conn net.Conn) (*monitor, error) {
	m := &monitor{
		conn: conn, answers: make(chan qmpMessage, 1),
		over: make(chan struct{}), changed: make(chan struct{}),
	}
	go m.follow()
	if err := m.do(ctx, "qmp_capabilities", nil); err != nil {
		return nil, err
	}
	return m, nil
}

func (m *monitor) follow() {
	defer close(m.over)
	defer m.conn.Close()
	in := bufio.NewReader(m.conn)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var msg qmpMessage
		if json.Unmarshal(line, &msg) != nil || msg.Greeting != nil {
			continue
		}
		if msg.Event != "" {
			m.note(msg.Event)
			continue
		}
		select {
		case m.answers <- msg:
		default: // the last answer was not fetched: its caller went away
			<-m.answers
			m.answers <- msg
		}
	}
}

func (m *monitor) note(event string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.events) < eventsKept {
		m.events = append(m.events, event)
		close(m.changed)
		m.changed = make(chan struct{})
	}
}

var errMonitorOver = errors.New("the machine has stopped")

// do runs one command and waits for its answer.
func (m *monitor) do(ctx context.Context, command string, arguments any) error {
	m.turn.Lock()
	defer m.turn.Unlock()
	if err := m.ask(ctx, command, arguments); err != nil {
		return fmt.Errorf("QMP %s: %w", command, err)
	}
	for {
		select {
		case answer := <-m.answers:
			if answer.ID != m.last {
				continue // to a command whose caller went away
			}
			if answer.Error != nil {
				return fmt.Errorf("QMP %s: %s: %s", command, answer.Error.Class, answer.Error.Desc)
			}
			return nil
		case <-m.over:
			return fmt.Errorf("QMP %s: %w", command, errMonitorOver)
		case <-ctx.Done():
			return fmt.Errorf("QMP %s: %w", command, context.Cause(ctx))
		}
	}
}

func (m *monitor) ask(ctx context.Context, command string, arguments any) error {
	m.last++
	request := map[string]any{"execute": command, "id": m.last}
	if arguments != nil {
		request["arguments"] = arguments
	}
	line, err := json.Marshal(request)
	if err != nil {
		return err
	}
	deadline, _ := ctx.Deadline()
	m.conn.SetWriteDeadline(deadline)
	_, err = m.conn.Write(append(line, '\n'))
	return err
}

// await waits for an event after the last awaited one.
func (m *monitor) await(ctx context.Context, event string) error {
	for {
		found, changed := m.look(event)
		if found {
			return nil
		}
		select {
		case <-changed:
		case <-m.over:
			if found, _ := m.look(event); found {
				return nil
			}
			return fmt.Errorf("await event %s: %w", event, errMonitorOver)
		case <-ctx.Done():
			return fmt.Errorf("await event %s: %w", event, context.Cause(ctx))
		}
	}
}

func (m *monitor) look(event string) (bool, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := m.seen; i < len(m.events); i++ {
		if m.events[i] == event {
			m.seen = i + 1
			return true, nil
		}
	}
	return false, m.changed
}
