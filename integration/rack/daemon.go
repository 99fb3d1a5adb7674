package rack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"edeploy/server/api"
)

// Daemon is an edeployd that runs on this host and keeps images, nothing else.
type Daemon struct {
	Server string // its HTTP address, http://...
	HTTP   string // host and port of the same
	Rsync  string // host and port
	PID    int    // of the process that serves, a child of the one that was started

	cmd *exec.Cmd
	log string
}

// StartDaemon starts edeployd out of the build's output directory and waits
// until it answers. Its files are below dir, its images in top.
func StartDaemon(ctx context.Context, out, dir, top string) (*Daemon, error) {
	http, rsync, err := freePorts()
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "edeploy.conf")
	text := fmt.Sprintf("[SERVER]\nCONFIGDIR=config\n[NETWORK]\nADDRESS=127.0.0.1/8\n[DHCP]\nENABLED=no\n"+
		"[HTTP]\nPORT=%d\n[RSYNC]\nPORT=%d\n[IMAGES]\nTOP=%s\n[STATE]\nDIR=server\n", http, rsync, top)
	if err := os.MkdirAll(filepath.Join(dir, "config"), 0o755); err != nil {
		return nil, err
	}
	for name, text := range map[string]string{conf: text, filepath.Join(dir, "config", "state"): "[]\n"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	d := &Daemon{HTTP: fmt.Sprintf("127.0.0.1:%d", http), Rsync: fmt.Sprintf("127.0.0.1:%d", rsync), log: filepath.Join(dir, "edeployd.log")}
	d.Server = "http://" + d.HTTP
	log, err := os.Create(d.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	d.cmd = exec.CommandContext(ctx, filepath.Join(out, "bin", "edeployd"), "-config", conf)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	if err = d.await(ctx); err == nil {
		d.PID, err = childOf(d.cmd.Process.Pid)
	}
	if err != nil {
		said, _ := os.ReadFile(d.log)
		return nil, errors.Join(fmt.Errorf("%w; it said:\n%s", err, said), d.Stop())
	}
	return d, nil
}

// childOf finds the one child of a process.
func childOf(parent int) (int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	for _, stat := range stats {
		text, err := os.ReadFile(stat)
		if err != nil {
			continue // it has ended
		}
		// proc_pid_stat(5): pid (command) state ppid ...; the command may hold anything.
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			return strconv.Atoi(filepath.Base(filepath.Dir(stat)))
		}
	}
	return 0, fmt.Errorf("process %d has no child", parent)
}

// Ctl runs edeployctl against the daemon.
func (d *Daemon) Ctl(ctx context.Context, args ...string) (string, error) {
	return ctl(ctx, filepath.Dir(filepath.Dir(d.cmd.Path)), d.Server, args...)
}

// freePorts are two TCP ports of the loopback device that nobody uses.
func freePorts() (first, second int, err error) {
	a, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, 0, err
	}
	defer a.Close()
	b, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, 0, err
	}
	defer b.Close()
	return a.Addr().(*net.TCPAddr).Port, b.Addr().(*net.TCPAddr).Port, nil
}

func (d *Daemon) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	client := api.Client{Address: d.Server}
	if err := try(ctx, 50*time.Millisecond, func() error { _, err := client.Version(ctx); return err }); err != nil {
		return fmt.Errorf("edeployd on this host does not answer: %w", err)
	}
	return nil
}

// Stop ends the daemon in order.
func (d *Daemon) Stop() error {
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return d.cmd.Wait()
}
