package rsyncd

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/semaphore"
)

// budget is how much of something all transfers may have in memory at once.
type budget struct {
	what string
	most int64
	wait time.Duration // for others to give something back
	left *semaphore.Weighted
}

func newBudget(what string, most int64, wait time.Duration) budget {
	return budget{what, most, wait, semaphore.NewWeighted(most)}
}

// account is what one transfer has of a budget.
type account struct {
	budget
	taken int64
}

func (b budget) open() *account { return &account{budget: b} }

// take takes more, and waits for it.
func (a *account) take(n int64) error {
	if a.taken+n > a.most {
		return fmt.Errorf("more than %d %s: ask for less at once", a.most, a.what)
	}
	ctx, cancel := context.WithTimeout(context.Background(), a.wait)
	defer cancel()
	if !a.left.TryAcquire(n) && a.left.Acquire(ctx, n) != nil { // what is free is had on the slowest machine, too
		return fmt.Errorf("the transfers under way have %d %s in all, which is all there may be: try again later", a.most, a.what)
	}
	a.taken += n
	return nil
}

// close gives all back.
func (a *account) close() {
	a.left.Release(a.taken)
	a.taken = 0
}
