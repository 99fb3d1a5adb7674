package abuse_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"edeploy/integration/lab/labtest"
)

const (
	address = "10.0.3.1"
	web     = address + ":80"
	rsyncd  = address + ":873"
)

// daemon is the real edeployd on br0. Its files outlive it.
type daemon struct {
	dir string
	cmd *exec.Cmd
	log *os.File
	pid int // of the process that serves
}

// newDaemon writes the files of a daemon.
func newDaemon(t *testing.T) *daemon {
	t.Helper()
	d := &daemon{dir: t.TempDir()}
	for name, text := range map[string]string{
		"edeploy.conf": "[SERVER]\nCONFIGDIR=config\nHWDIR=hw\nLOGDIR=logs\n[NETWORK]\nINTERFACE=br0\nADDRESS=" + address + "/24\nCONFIGURE=yes\n" +
			"[BOOT]\nDIR=boot\n[IMAGES]\nTOP=images\n[STATE]\nDIR=server\n",
		"config/state":                     stateText,
		"config/vm.specs":                  "[('network', '$eth', 'serial', '$mac')]\n",
		"config/vm.configure":              "run('true')\n",
		"boot/vmlinuz":                     strings.Repeat("kernel", 10_000),
		"boot/initrd.pxe":                  strings.Repeat("initrd", 10_000),
		"boot/snponly.efi":                 "snponly",
		"boot/" + loader:                   strings.Repeat("loader", 10_000),
		"images/install/V1/base/etc/motd":  strings.Repeat("hello\n", 1000),
		"images/install/V1/base/big":       strings.Repeat("0123456789abcdef", 2<<20),
		"images/install/V1/base/usr/empty": "",
	} {
		name = filepath.Join(d.dir, name)
		must(t, os.MkdirAll(filepath.Dir(name), 0o755))
		must(t, os.WriteFile(name, []byte(text), 0o644))
	}
	var err error
	d.log, err = os.Create(filepath.Join(labtest.Dir(t), "edeployd.log"))
	must(t, err)
	t.Cleanup(func() { d.log.Close() })
	return d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// start starts the daemon and waits until the host is served by every service.
func (d *daemon) start(t *testing.T, honest *client) {
	t.Helper()
	// As many files as the kernel gives a process that nobody has given more.
	d.cmd = exec.Command("sh", "-c", `ulimit -n 4096 && exec ../../out/bin/edeployd -config "$0"`, filepath.Join(d.dir, "edeploy.conf"))
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	cmd := d.cmd
	must(t, cmd.Start())
	t.Cleanup(func() {
		if cmd.ProcessState == nil { // the test has failed
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	const most = 30 * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), most)
	defer cancel()
	for {
		err := honest.round(ctx)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("the daemon does not serve within %v of its start: %v\n%s", most, err, d.lastLines())
		}
		time.Sleep(50 * time.Millisecond)
	}
	d.pid = childOf(d.cmd.Process.Pid)
	if d.pid == 0 {
		t.Fatal("the daemon has no child")
	}
}

// stop ends the daemon in order.
func (d *daemon) stop(t *testing.T) {
	t.Helper()
	must(t, d.cmd.Process.Signal(syscall.SIGTERM))
	if err := d.cmd.Wait(); err != nil {
		t.Errorf("the daemon ends with %v", err)
	}
}

func (d *daemon) lastLines() string {
	text, _ := os.ReadFile(d.log.Name())
	return string(text[max(0, len(text)-3000):])
}

// await waits until the daemon has said something.
func (d *daemon) await(t *testing.T, text string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !strings.Contains(d.lastLines(), text); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the daemon does not say %q within 20 s:\n%s", text, d.lastLines())
		}
	}
}

// childOf is the one child of a process, 0 when there is none.
func childOf(parent int) int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, stat := range stats {
		text, _ := os.ReadFile(stat)
		// proc_pid_stat(5): pid (command) state ppid ...
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(stat)))
			return pid
		}
	}
	return 0
}

// usage is what the daemon uses.
type usage struct{ megabytes, files, goroutines int }

func (d *daemon) usage(t *testing.T) usage {
	t.Helper()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.pid))
	must(t, err)
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(d.dir, "server/debug/pprof.sock"))
		}}}
	res, err := client.Get("http://x/debug/pprof/goroutine?debug=1")
	must(t, err)
	defer res.Body.Close()
	line, err := bufio.NewReader(res.Body).ReadString('\n')
	must(t, err)
	goroutines, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(line, "goroutine profile: total ")))
	must(t, err)
	return usage{d.megabytes(), len(files), goroutines}
}

// megabytes is the resident memory; 0 when the process is gone.
func (d *daemon) megabytes() int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.pid))
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, _ := strconv.Atoi(strings.Fields(rest)[0])
			return kb >> 10
		}
	}
	return 0
}
