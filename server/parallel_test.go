package server_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"edeploy/server"
	"edeploy/server/internal/store"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

// TestParallel lets 200 machines ask at once, over real connections, each
// twice, with 150 counts; the server restarts in the middle.
func TestParallel(t *testing.T) {
	const machines, counts = 200, 150
	l := startLab(t, countedFiles(counts))
	var given sync.Map // machine -> its first answer
	var refused atomic.Int64
	round := func() {
		web := httptest.NewServer(l.server.Handler())
		defer web.Close()
		var all sync.WaitGroup
		for n := range machines {
			all.Go(func() {
				kind, body := form("file/hw.json", encode(vm(n)))
				status, err := post(context.Background(), web.URL+"//cgi-bin//upload.py", kind, body)
				switch {
				case err != nil:
					t.Error(err)
				case status == http.StatusOK:
					given.Store(n, true)
				case status == http.StatusConflict:
					refused.Add(1)
				default:
					t.Errorf("machine %d: status %d", n, status)
				}
			})
		}
		all.Wait()
	}
	round()
	l.restart()
	round()
	var holders []int
	given.Range(func(n, _ any) bool {
		holders = append(holders, n.(int))
		return true
	})
	if len(holders) != counts || refused.Load() != 2*(machines-counts) {
		t.Errorf("%d machines got a profile, %d were refused in two rounds; want %d and %d", len(holders), refused.Load(), counts, 2*(machines-counts))
	}
	l.books(counts, holders...)
}

// TestParallelSameMachine: one machine asks thirty times at once.
func TestParallelSameMachine(t *testing.T) {
	l := startLab(t, countedFiles(5))
	var all sync.WaitGroup
	for range 30 {
		all.Go(func() {
			if a := l.upload(vm(1)); a.status != http.StatusOK {
				t.Errorf("status %d: %s", a.status, a.body)
			}
		})
	}
	all.Wait()
	l.books(5, 1)
	for range 30 {
		all.Go(func() {
			if a := l.fail("vm", vm(1)); a.status != http.StatusOK {
				t.Errorf("status %d: %s", a.status, a.body)
			}
		})
	}
	all.Wait()
	l.books(5)
}

// TestTwoServers: a second server cannot use the same state directory.
func TestTwoServers(t *testing.T) {
	l := startLab(t, seedFiles())
	if _, err := l.open(l.settings()); err == nil {
		t.Fatal("a second server has started on the same state directory")
	}
	l.restart() // it is free after Close
}

// whileWriting lets the first machine ask; while its decision is being written,
// meanwhile starts others, and goes on when so many wait.
func whileWriting(t *testing.T, l *lab, waiting int, meanwhile func(all *sync.WaitGroup)) (commits int64) {
	t.Helper()
	var journals atomic.Int64
	entered, full := make(chan struct{}), make(chan struct{})
	l.step = func(what string) error {
		if what == "write journal" && journals.Add(1) == 1 {
			close(entered)
			<-full
		}
		return nil
	}
	l.start()
	var all sync.WaitGroup
	all.Go(func() { l.mustGet(vm(0)) })
	<-entered
	meanwhile(&all)
	deadline := time.Now().Add(20 * time.Second)
	for l.server.Waiting() < waiting && time.Now().Before(deadline) {
		runtime.Gosched()
	}
	close(full)
	all.Wait()
	return journals.Load()
}

// TestTogether: decisions that wait at the same time are written together, and
// a refused one or one that goes alone does not disturb the others.
func TestTogether(t *testing.T) {
	const machines = 30
	l := newLab(t, countedFiles(20))
	var given atomic.Int64
	commits := whileWriting(t, l, machines-1, func(all *sync.WaitGroup) {
		for n := 1; n < machines; n++ {
			all.Go(func() {
				if a := l.upload(vm(n)); a.status == http.StatusOK {
					given.Add(1)
				} else if a.status != http.StatusConflict {
					t.Errorf("status %d: %s", a.status, a.body)
				}
			})
		}
	})
	if given.Load() != 19 || commits != 2 {
		t.Errorf("%d machines beside the first got a profile, in %d commits; want 19 in 2", given.Load(), commits)
	}
}

// TestDefectAmongOthers: a decision that panics, or whose outcome panics when
// it is written, is answered with its panic; those that are made together with
// it are written, and the next ones find everything in order.
func TestDefectAmongOthers(t *testing.T) {
	for _, when := range []string{"deciding", "writing"} {
		t.Run(when, func(t *testing.T) {
			const machines = 6
			l := newLab(t, countedFiles(machines+1))
			whileWriting(t, l, machines, func(all *sync.WaitGroup) {
				for n := 1; n < machines; n++ {
					all.Go(func() {
						if a := l.upload(vm(n)); a.status != http.StatusOK {
							t.Errorf("machine %d: status %d: %s", n, a.status, a.body)
						}
					})
				}
				all.Go(func() {
					if l.server.Fail(when) == nil {
						t.Error("the defect was not told")
					}
				})
			})
			l.mustGet(vm(machines))
			l.restart()
			l.books(machines+1, 0, 1, 2, 3, 4, 5, 6)
		})
	}
}

// TestDefectAlone: a defect does not keep the turn.
func TestDefectAlone(t *testing.T) {
	l := startLab(t, countedFiles(2))
	for _, when := range []string{"deciding", "writing"} {
		if l.server.Fail(when) == nil {
			t.Errorf("%s: the defect was not told", when)
		}
		l.mustGet(vm(1))
	}
	l.books(2, 1)
}

// TestPlaces: an upload that waits for its turn keeps no place from those that
// are still to be read.
func TestPlaces(t *testing.T) {
	l := newLab(t, countedFiles(6))
	l.limits = server.Limits{Uploads: 1}
	commits := whileWriting(t, l, 5, func(all *sync.WaitGroup) {
		for n := 1; n <= 5; n++ {
			all.Go(func() { l.mustGet(vm(n)) })
		}
	})
	if commits != 2 {
		t.Errorf("%d commits, want 2: the other five together", commits)
	}
}

// TestSharedStore: two servers with the same documents. Each decides on what the
// other has written, and knows its machines; counts and entries are taken once.
func TestSharedStore(t *testing.T) {
	l := newLab(t, countedFiles(10))
	l.memory = store.NewMemory(store.Etcd)
	l.start()
	other := &lab{t: t, config: l.config, state: t.TempDir(), named: l.named, memory: l.memory, clock: l.clock}
	settings := other.settings()
	settings.Deployments["SERVER"] = server.Deployment{ConfigDir: l.config, LockFile: filepath.Join(t.TempDir(), "lock")}
	other.startWith(settings)
	var all sync.WaitGroup
	for n := range 10 {
		for _, at := range []*lab{l, other} { // every machine asks both
			all.Go(func() {
				if a := at.upload(vm(n)); a.status != http.StatusOK {
					t.Errorf("machine %d: status %d: %s", n, a.status, a.body)
				}
			})
		}
	}
	all.Wait()
	for _, at := range []*lab{l, other} {
		for deadline := time.Now().Add(20 * time.Second); len(at.machines()) < 10 && time.Now().Before(deadline); {
			runtime.Gosched()
		}
		at.books(10, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
	}
	l.boot(idOf(3), "hold", http.StatusOK)
	for deadline := time.Now().Add(20 * time.Second); other.server.BootAction(mac(3), "") != wire.BootHold; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("the other server says %s, want hold", other.server.BootAction(mac(3), ""))
		}
	}
}

// TestTooLargeForStore: a group that is too large for the store goes in parts and
// everybody is answered; a change that alone is too large is refused, and what to
// do is said.
func TestTooLargeForStore(t *testing.T) {
	const machines = 30
	l := newLab(t, countedFiles(machines))
	l.memory = store.NewMemory(store.Limits{Changes: 10, Bytes: 100 << 10})
	commits := whileWriting(t, l, machines-1, func(all *sync.WaitGroup) {
		for n := 1; n < machines; n++ {
			all.Go(func() { l.mustGet(vm(n)) })
		}
	})
	if commits < 5 {
		t.Errorf("%d commits of 10 documents", commits)
	}
	before := l.files()
	a, _ := l.edit("PUT", "/SERVER", `{"files": {"a.configure": "set_role('a', '1', 'b')\n#`+strings.Repeat("x", 100<<10)+`", "vm.specs": "[]"}}`)
	if a.status != http.StatusRequestEntityTooLarge || !strings.Contains(a.body, "make it in parts") {
		t.Errorf("a change that is too large: status %d: %s", a.status, a.body)
	}
	if diff := cmp.Diff(before, l.files()); diff != "" {
		t.Errorf("it was made all the same (-before +after):\n%s", diff)
	}
	var all []int
	for n := range machines {
		all = append(all, n)
	}
	l.books(machines, all...)
}
