package configure

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"edeploy/agent/internal/command"
)

// toolLimit is how long a RAID controller's program may take. The original
// waits 30 s; a controller with many drives takes longer to make an array.
const toolLimit = 5 * time.Minute

// installed is the first of several programs that is there.
func installed(names []string) (string, error) {
	for _, name := range names {
		if _, err := exec.LookPath(name); err == nil {
			return name, nil
		}
	}
	last := len(names) - 1
	return "", fmt.Errorf("this initrd has no %s or %s: put the maker's tool beside it as an add-on, see agent/README.md", strings.Join(names[:last], ", "), names[last])
}

// raidTool runs the first of several programs that is there as run does: logged,
// with the disks that it names watched.
func (e *helperEnv) raidTool(names []string, words ...string) (string, error) {
	program, err := installed(names)
	if err != nil {
		return "", err
	}
	c := command.Command{Argv: append([]string{program}, words...)}
	if err := e.ready(c.String()); err != nil {
		return "", err
	}
	ctx, stop := context.WithTimeoutCause(e.ctx, toolLimit, fmt.Errorf("no answer within %s", toolLimit))
	defer stop()
	fmt.Fprintf(e.host.log(), "+ %s\n", c)
	out, err := e.host.Run(ctx, c)
	if err == nil && len(out) >= command.KeptOutput {
		err = errors.New(c.String() + ": the answer has more than 64 KiB: call the program with run")
	}
	return strings.ToValidUTF8(string(out), "?"), e.watch.explain(err, c.String())
}
