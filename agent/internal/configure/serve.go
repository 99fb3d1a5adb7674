package configure

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"go.starlark.net/lib/json"
	"go.starlark.net/starlark"

	"edeploy/agent/internal/command"
	"edeploy/server/wire"
)

// maxRequest bounds a call that a Python script makes, in bytes.
const maxRequest = 64 << 10

// serving makes a runner whose command can call the functions of modules: a
// Python script has the same ones as the dialect, through the socket that
// EDEPLOY_MODULES names. The prelude knows the other side of it.
func (h Host) serving(conf wire.Configuration, w *watch) command.Runner {
	run := h.Run
	return func(ctx context.Context, c command.Command) ([]byte, error) {
		dir, err := os.MkdirTemp("", "modules")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		socket := filepath.Join(dir, "socket")
		l, err := net.Listen("unix", socket)
		if err != nil {
			return nil, err
		}
		calls, stop := context.WithCancel(ctx)
		env := newHelperEnv(calls, h, conf, w)
		var served sync.WaitGroup
		served.Go(func() { env.serve(l) })
		c.Env = append(slices.Clone(c.Env), "EDEPLOY_MODULES="+socket)
		out, err := run(ctx, c)
		stop()
		_ = l.Close() // ends the calls; the script is no more
		served.Wait()
		return out, err
	}
}

// serve answers one call after the other.
func (e *helperEnv) serve(l net.Listener) {
	defer l.Close()
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		e.answer(conn)
	}
}

// answer reads a line of JSON, [name, arguments, arguments by name], and writes "="
// and the value as Python writes it, or "!" and why there is none.
func (e *helperEnv) answer(conn net.Conn) {
	defer conn.Close()
	defer context.AfterFunc(e.ctx, func() { conn.Close() })()
	line, err := bufio.NewReader(io.LimitReader(conn, maxRequest)).ReadString('\n')
	if err != nil {
		err = fmt.Errorf("read the call: %w", err)
	}
	var v starlark.Value
	if err == nil {
		v, err = e.request(line)
	}
	text := "!"
	if err == nil {
		text = "=" + v.String()
	} else {
		text += err.Error()
	}
	_, _ = io.WriteString(conn, text) // a caller who is gone hears nothing
}

func (e *helperEnv) request(line string) (starlark.Value, error) {
	decode := json.Module.Members["decode"]
	v, err := starlark.Call(&starlark.Thread{Name: "call"}, decode, starlark.Tuple{starlark.String(line)}, nil)
	if err != nil {
		return nil, err
	}
	var name string
	var args *starlark.List
	var kwargs *starlark.Dict
	list, _ := v.(*starlark.List)
	if list == nil {
		return nil, fmt.Errorf("call: want a list, not a %s", v.Type())
	}
	if err := starlark.UnpackPositionalArgs("call", slices.Collect(list.Elements()), nil, 3, &name, &args, &kwargs); err != nil {
		return nil, err
	}
	module, function, _ := strings.Cut(name, ".")
	return e.call(module, function, slices.Collect(args.Elements()), kwargs.Items())
}
