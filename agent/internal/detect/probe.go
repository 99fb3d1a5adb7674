package detect

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"edeploy/server/wire"
)

// probe looks at one part of a machine.
type probe struct {
	name  string
	limit time.Duration
	// look adds what it finds; an error says what is missing beside that.
	look func(context.Context, *facts) error
}

// defaultLimit is for what is read from memory of the kernel, and is there at
// once: beyond it a driver hangs.
const defaultLimit = 5 * time.Second

// limits are those of probes that ask devices.
var limits = map[string]time.Duration{
	"areca": 30 * time.Second, "hpa": 60 * time.Second, "megaraid": 60 * time.Second,
	"ipmi": 15 * time.Second, "ipmi sensors": 30 * time.Second,
	"lldp":  wire.MaxLLDPSeconds*time.Second + defaultLimit,
	"smart": 30 * time.Second, // behind a RAID controller there are 24 to ask
}

// atOnce is how many probes run side by side. They wait for devices, not for
// processors; one that hangs gives its place free when its time is over.
const atOnce = 8

// finding is what a probe found, and what it did not.
type finding struct {
	facts   wire.Hardware
	problem error
}

// runAll runs all probes and answers their findings in the same order.
func runAll(ctx context.Context, probes []probe) []finding {
	found := make([]finding, len(probes))
	places := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i, p := range probes {
		wg.Go(func() {
			places <- struct{}{}
			found[i] = p.run(ctx)
			<-places
		})
	}
	wg.Wait()
	return found
}

// run gives a probe its time. A read that hangs in the kernel cannot be ended:
// it is left behind, with what it was about to add to.
func (p probe) run(ctx context.Context) finding {
	ctx, cancel := context.WithTimeout(ctx, p.limit)
	defer cancel()
	done := make(chan finding, 1)
	go func() { done <- p.guarded(ctx) }()
	var found finding
	select {
	case found = <-done:
	case <-ctx.Done():
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return finding{problem: fmt.Errorf("no answer within %s", p.limit)}
	}
	return found
}

// guarded makes an error of a panic: firmware tables are a vendor's work and
// come with surprises.
func (p probe) guarded(ctx context.Context) (found finding) {
	f := &facts{}
	defer func() {
		if reason := recover(); reason != nil {
			found = finding{problem: fmt.Errorf("unexpected form: %v", reason)}
		}
	}()
	err := p.look(ctx, f)
	return finding{f.list, err}
}
