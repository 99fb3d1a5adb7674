// Package abuse_test is one bad client against the real daemon: while a host
// on the provisioning network attacks it, another host is served by every
// service, memory stays within bounds, everything comes back when the attack
// is over, and the daemon is never restarted and starts again after it.
//
// It needs root, and the programs that `make build` makes. It plays in network
// namespaces of its own.
package abuse_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"

	"edeploy/integration/needs"
)

const (
	mostGrowth = 256              // MB of resident memory above idle
	hold       = 2 * time.Second  // that an attack in place is watched
	launch     = 15 * time.Second // the longest time until it is in place
	calm       = 15 * time.Second // the longest time until everything has come back
	fewMore    = 8                // files and goroutines that are no trace of an attack
)

func TestAbuse(t *testing.T) {
	if !isolated(t) {
		return
	}
	honest, evil := newRack(t)
	d := newDaemon(t)
	var table []result
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			if a.prepare != nil {
				a.prepare(t, d)
			}
			d.start(t, honest)
			r := watch(t, d, honest, evil, a)
			table = append(table, r)
			d.stop(t)
		})
	}
	d.start(t, honest) // also after the last one
	d.stop(t)
	print(t, table)
}

// isolated says whether the test is in namespaces of its own; if not, it runs
// the test once more there.
func isolated(t *testing.T) bool {
	t.Helper()
	if os.Getenv("EDEPLOY_ABUSE") == "" {
		t.Skip("plays with edeployd in network namespaces for three minutes: EDEPLOY_ABUSE=1 runs it (make abuse)")
	}
	_, err := os.Stat("../../out/bin/edeployd")
	needs.That(t, err == nil, "out/bin/edeployd: `make build` makes it")
	return needs.Namespace(t, "rsync")
}

// newRack is a switch with two hosts.
func newRack(t *testing.T) (honest *client, evil *host) {
	t.Helper()
	newSwitch(t)
	return newClient(t, newHost(t, "honest", "10.0.3.9")), newHost(t, "evil", "10.0.3.66")
}

// attack is what a bad client does.
type attack struct {
	name    string
	prepare func(*testing.T, *daemon) // before the daemon starts
	// run attacks until ctx ends; it calls ready when the attack is in place.
	run func(ctx context.Context, p *peer) error
}

// peer is the host of an attack.
type peer struct {
	*host
	ready func()
}

// readyAfter answers what counts the parts of an attack that are in place.
func (p *peer) readyAfter(parts int64) (done func()) {
	var count atomic.Int64
	return func() {
		if count.Add(1) == parts {
			p.ready()
		}
	}
}

// result is a line of the table.
type result struct {
	attack      string
	served      bool
	worst       time.Duration
	service     string  // that was the worst
	near        float64 // to its bar
	idle, most  int     // MB
	before, now usage
}

// watch attacks and measures.
func watch(t *testing.T, d *daemon, honest *client, evil *host, a attack) result {
	t.Helper()
	r := result{attack: a.name, before: d.usage(t), served: true}
	r.idle = r.before.megabytes
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ready, done := make(chan struct{}), make(chan struct{})
	var failure error
	go func() {
		defer close(done)
		failure = a.run(ctx, &peer{evil, sync.OnceFunc(func() { close(ready) })})
	}()
	over := make(chan struct{})
	var watchers sync.WaitGroup
	samples := make([][]sample, len(honest.services()))
	for i, s := range honest.services() {
		watchers.Go(func() { samples[i] = use(t, s, over) })
	}
	watchers.Go(func() {
		for {
			r.most = max(r.most, d.megabytes())
			select {
			case <-over:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	select {
	case <-ready:
	case <-done:
	case <-time.After(launch):
		t.Logf("the attack is not in place after %v", launch)
	}
	time.Sleep(hold)
	close(over)
	watchers.Wait()
	stop()
	<-done
	if failure != nil && !errors.Is(failure, context.Canceled) {
		t.Errorf("the attack: %v", failure)
	}
	r.judge(t, honest, samples)
	if pid := childOf(d.cmd.Process.Pid); pid != d.pid {
		t.Fatalf("the daemon was restarted: process %d is now %d\n%s", d.pid, pid, d.lastLines())
	}
	if growth := r.most - r.idle; growth > mostGrowth {
		t.Errorf("resident memory grew by %d MB, want %d at most", growth, mostGrowth)
	}
	r.now = settle(t, d, r.before)
	return r
}

// sample is one use of a service.
type sample struct {
	took time.Duration
	err  error
}

// use uses a service again and again until over is closed.
func use(t *testing.T, s service, over <-chan struct{}) (all []sample) {
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		began := time.Now()
		err := s.use(ctx)
		cancel()
		all = append(all, sample{time.Since(began), err})
		select {
		case <-over:
			return all
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// judge looks at what the honest client has got.
func (r *result) judge(t *testing.T, honest *client, samples [][]sample) {
	t.Helper()
	for i, s := range honest.services() {
		var times []time.Duration
		failures := map[string]int{}
		for _, sample := range samples[i] {
			times = append(times, sample.took)
			if sample.err != nil {
				failures[sample.err.Error()]++
			}
		}
		slices.Sort(times)
		p99 := times[(len(times)*99+99)/100-1]
		if p99 > s.most || len(failures) > 0 {
			r.served = false
			t.Errorf("%s: p99 of %d is %v, want %v at most; failures: %v", s.name, len(times), p99, s.most, failures)
		}
		// Each counts by how near it is to its bar.
		if near := p99.Seconds() / s.most.Seconds(); near > r.near {
			r.near, r.worst, r.service = near, p99, s.name
		}
	}
}

// settle waits until files and goroutines have come back.
func settle(t *testing.T, d *daemon, before usage) usage {
	t.Helper()
	for end := time.Now().Add(calm); ; time.Sleep(100 * time.Millisecond) {
		now := d.usage(t)
		if now.files <= before.files+fewMore && now.goroutines <= before.goroutines+fewMore {
			return now
		}
		if time.Now().After(end) {
			t.Errorf("%v after the attack: %+v, before it: %+v", calm, now, before)
			return now
		}
	}
}

// print writes the table.
func print(t *testing.T, table []result) {
	t.Helper()
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "attack\tserved\tworst p99\t\tMB idle\tMB most\tfiles\tgoroutines")
	for _, r := range table {
		served := "yes"
		if !r.served {
			served = "NO"
		}
		fmt.Fprintf(w, "%s\t%s\t%.2f s\t%s\t%d\t%d\t%d > %d\t%d > %d\n", r.attack, served, r.worst.Seconds(), r.service, r.idle, r.most,
			r.before.files, r.now.files, r.before.goroutines, r.now.goroutines)
	}
	w.Flush()
	t.Logf("\n%s", text.String())
}
