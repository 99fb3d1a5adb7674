package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"edeploy/integration/needs"
	"edeploy/server"
	"edeploy/server/api"
	"edeploy/server/internal/literal"
	"edeploy/server/wire"
)

var errPower = errors.New("power cut")

// countedFiles is a configuration directory in which everything is counted.
func countedFiles(count int) map[string]string {
	return map[string]string{
		"state": fmt.Sprintf("[('vm', %d)]\n", count), "vm.specs": vmSpecs, "vm.configure": vmConfigure,
		"vm.cmdb": fmt.Sprintf("generate({'ip': '10.1.0.1-%d', 'name': 'n001-%03d'})\n", count, count),
	}
}

// books checks that state, CMDB and records agree: of total counts and
// entries, each machine holds one of each, and nobody else does.
func (l *lab) books(total int, machines ...int) {
	l.t.Helper()
	l.stateIs(fmt.Sprintf("[('vm', %d)]\n", total-len(machines)))
	used := map[string]string{} // mac -> ip
	for _, e := range l.entries() {
		if _, ok := e.Get("used"); ok {
			m, _ := e.Get("mac")
			ip, _ := e.Get("ip")
			if used[fmt.Sprint(m)] != "" {
				l.t.Errorf("machine %s holds two CMDB entries", m)
			}
			used[fmt.Sprint(m)] = fmt.Sprint(ip)
		}
	}
	if len(used) != len(machines) {
		l.t.Errorf("%d CMDB entries are used, want %d", len(used), len(machines))
	}
	seen := map[any]bool{}
	for _, n := range machines {
		m := l.machine(idOf(n))
		if m.Allocation == nil {
			l.t.Errorf("machine %d holds nothing", n)
			continue
		}
		ip := variables(l.t, wire.Configuration{Var: m.Allocation.Var})["ip"]
		if ip != used[mac(n)] || seen[ip] {
			l.t.Errorf("machine %d: its record says %v, the CMDB %v; twice: %v", n, ip, used[mac(n)], seen[ip])
		}
		seen[ip] = true
	}
}

// entries reads the CMDB; without a file that was written there are none.
func (l *lab) entries() []*literal.Dict {
	l.t.Helper()
	doc, err := literal.ParseCall("vm.cmdb", l.read("vm.cmdb"), "generate")
	if err != nil {
		l.t.Fatal(err)
	}
	list, _ := doc.Node.Value.(literal.List)
	var all []*literal.Dict
	for _, e := range list {
		all = append(all, e.(*literal.Dict))
	}
	return all
}

// TestPowerCuts cuts the power before every single change of the file system
// while a machine uploads, or reports a failure, or is forgotten; then the
// server starts again and the machine asks again.
func TestPowerCuts(t *testing.T) {
	for name, act := range map[string]func(l *lab){
		"upload":  func(l *lab) { l.upload(vm(2)) },
		"failure": func(l *lab) { l.fail("vm", vm(1)) },
		"forget":  func(l *lab) { l.do("DELETE", "/api/v1/machines/"+idOf(1), "", nil) },
		"push": func(l *lab) {
			cmdb := strings.Replace(countedFiles(5)["vm.cmdb"], "{", "{'dns': '9.9.9.9', ", 1)
			body, err := json.Marshal(api.ConfigSet{Files: map[string]string{"vm.cmdb": cmdb, "vm.specs": vmSpecs + "# new\n"}})
			if err != nil {
				l.t.Fatal(err)
			}
			l.edit("PUT", "/SERVER", string(body))
		},
	} {
		t.Run(name, func(t *testing.T) {
			for n := 0; ; n++ {
				if whole := cutPower(t, n, act); whole {
					if n < 8 {
						t.Errorf("only %d places for a power cut", n)
					}
					return
				}
			}
		})
	}
}

// cutPower runs the act with a power cut before the n-th change; it answers
// whether the act came to its end before that.
func cutPower(t *testing.T, n int, act func(l *lab)) (whole bool) {
	l := startLab(t, countedFiles(5))
	l.mustGet(vm(1))
	l.stop()
	left := n
	l.step = func(string) error {
		if left == 0 {
			return errPower
		}
		left--
		return nil
	}
	l.start()
	act(l)
	whole = left > 0
	l.stop()
	l.step = nil
	l.start()
	l.mustGet(vm(2))
	l.mustGet(vm(1))
	l.books(5, 1, 2)
	l.fail("vm", vm(1))
	l.fail("vm", vm(1))
	l.books(5, 2)
	if t.Failed() {
		t.Fatalf("after a power cut before change %d", n)
	}
	return whole
}

// TestKill is the campaign below, small.
func TestKill(t *testing.T) { campaign(t, 40, 10, 2*time.Minute) }

// TestCampaign is a thousand machines at once while the server process is
// killed and started again at a hundred random instants.
func TestCampaign(t *testing.T) {
	if os.Getenv("EDEPLOY_LONG") != "1" {
		t.Skip("takes minutes: EDEPLOY_LONG=1 runs it")
	}
	campaign(t, 1000, 100, 30*time.Minute)
}

// campaign kills the server process with SIGKILL, again and again, while
// machines ask and some report failures. In the end every machine that holds
// something holds one count and one entry, and nobody else does.
// SEED repeats one.
func campaign(t *testing.T, machines, kills int, most time.Duration) {
	seed := needs.Seed(t)
	t.Logf("campaign of %d machines and %d kills", machines, kills)
	l := newLab(t, crowdedFiles(machines))
	ctx, cancel := context.WithTimeout(context.Background(), most)
	defer cancel()
	address := make(chan string, 1)
	child := serveInChild(t, l, address)
	var base atomic.Value // of string
	base.Store(<-address)
	url := func() string { return base.Load().(string) }

	var all sync.WaitGroup
	var answered atomic.Int64
	over := make(chan struct{})
	for n := range machines {
		random := rand.New(rand.NewPCG(seed, uint64(n)))
		all.Go(func() { persist(ctx, t, url, n, random, &answered, over) })
	}
	random := rand.New(rand.NewPCG(seed, 1<<32))
	for range kills {
		select {
		case <-time.After(time.Duration(20+random.IntN(300)) * time.Millisecond): // the moment of the kill is the point
		case <-ctx.Done():
		}
		kill(t, child)
		child = serveInChild(t, l, address)
		base.Store(<-address)
	}
	close(over)
	all.Wait()
	kill(t, child)
	t.Logf("%d answers", answered.Load())
	l.start()
	var holders []int
	for n := range machines {
		holders = append(holders, n)
	}
	l.books(machines+10, holders...)
}

// crowdedFiles has ten counts and entries more than there are machines.
func crowdedFiles(machines int) map[string]string {
	files := countedFiles(machines + 10)
	files["vm.cmdb"] = fmt.Sprintf("generate({'name': 'n00001-%05d', 'ip': '10.1.0-%d.1-250'})\n", machines+10, machines/250+1)
	return files
}

// persist lets one machine ask, and report failures, until it is over; in the
// end it asks once more. Every request is repeated until it is answered.
func persist(ctx context.Context, t *testing.T, url func() string, n int, random *rand.Rand, answered *atomic.Int64, over <-chan struct{}) {
	hw := encode(vm(n))
	for ctx.Err() == nil {
		done := false
		select {
		case <-over:
			done = true
		default:
		}
		failure := ""
		if !done && random.IntN(4) == 0 {
			failure = "vm"
		}
		insist(ctx, t, url, "failure", failure, "file/hw.json", hw)
		answered.Add(1)
		if done {
			return
		}
	}
}

func insist(ctx context.Context, t *testing.T, url func() string, fields ...string) {
	for {
		kind, body := form(fields...)
		status, err := post(ctx, url()+"/cgi-bin/upload.py", kind, body)
		switch {
		case err == nil && status == http.StatusOK:
			return
		case err == nil && status != http.StatusServiceUnavailable: // busy: it asks again
			t.Errorf("status %d", status)
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			t.Errorf("no answer: %v", err)
			return
		}
	}
}

func post(ctx context.Context, url, kind string, body *bytes.Buffer) (int, error) {
	req, err := http.NewRequestWithContext(ctx, "POST", url, body)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", kind)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0, err
	}
	return resp.StatusCode, nil
}

// serveInChild starts this test binary as a server process; its address comes
// over the channel.
func serveInChild(t *testing.T, l *lab, address chan<- string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestServeAsChild$")
	cmd.Env = append(os.Environ(), "EDEPLOY_CHILD_CONFIG="+l.config, "EDEPLOY_CHILD_STATE="+l.state)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // it is dead already when all went well
	var line string
	if _, err := fmt.Fscanln(out, &line); err != nil {
		t.Fatalf("the server process says nothing: %v", err)
	}
	address <- "http://" + line
	return cmd
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed, as meant
}

// TestServeAsChild is the server process of TestKill.
func TestServeAsChild(t *testing.T) {
	config := os.Getenv("EDEPLOY_CHILD_CONFIG")
	if config == "" {
		t.Skip("only as the server process of TestKill")
	}
	s, err := server.New(server.Config{Deployments: map[string]server.Deployment{"SERVER": {ConfigDir: config, LockFile: filepath.Join(config, ".lock")}},
		StateDir: os.Getenv("EDEPLOY_CHILD_STATE"), Limits: server.Limits{NewPerPeer: 5000}})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(listener.Addr())
	t.Fatal(http.Serve(listener, s.Handler()))
}
