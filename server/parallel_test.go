package server_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"edeploy/server"
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
	if _, err := server.New(l.settings()); err == nil {
		t.Fatal("a second server has started on the same state directory")
	}
	l.restart() // it is free after Close
}
