package tuple

import (
	"container/list"
	"context"
	"time"
)

const defaultMaxWaiters = 1024

// waiter is an Acquire that waits. Whoever frees a tuple gives it to the first in line, under the lock, so nobody barges in.
type waiter struct {
	got chan hold // has room for one
}

// join puts a waiter at the end of the line for key, towards which nothing is free. It fails if the line is full.
func (sh *shard) join(key dstKey, hash uint64, pl *plan) (*list.Element, bool) {
	at, _ := sh.entries(key).find(key, hash)
	d := at.destination()
	if d.waiters == nil {
		d.waiters = list.New()
	}
	if d.waiters.Len() >= pl.maxWaiters {
		return nil, false
	}
	sh.waiting++
	e := d.waiters.PushBack(&waiter{make(chan hold, 1)})
	sh.setWake(pl)
	return e, true
}

// leave takes e, which must be in line, out of d's line.
func (sh *shard) leave(d *destination, e *list.Element) *waiter {
	sh.waiting--
	if sh.waiting == 0 && sh.wake != nil {
		sh.wake.Stop()
		sh.wake = nil
	}
	return d.waiters.Remove(e).(*waiter)
}

// setWake sees to it that those who wait get what cools down: while somebody waits and something is retired, a timer
// calls settle when the first of it comes free.
func (sh *shard) setWake(pl *plan) {
	if sh.waiting == 0 || sh.cool.empty() {
		return
	}
	in := time.Duration(sh.cool.next() - now())
	if sh.wake != nil {
		sh.wake.Reset(in)
		return
	}
	sh.wake = time.AfterFunc(in, func() {
		sh.mu.Lock()
		defer sh.mu.Unlock()
		sh.settle(pl)
		sh.setWake(pl)
	})
}

// await waits for what its place in the line for key brings.
func (sh *shard) await(ctx context.Context, key dstKey, hash uint64, e *list.Element, pl *plan) (hold, error) {
	w := e.Value.(*waiter)
	select {
	case h := <-w.got:
		return h, nil
	case <-ctx.Done():
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.settle(pl)
	select {
	case h := <-w.got: // both happened: the next in line has more use for it
		sh.retire(key, hash, h, 0, pl)
		return 0, sh.exhausted(key, hash, ctx.Err())
	default:
	}
	at, _ := sh.entries(key).find(key, hash)
	d := at.destination()
	sh.leave(d, e)
	err := sh.exhausted(key, hash, ctx.Err())
	at.e.reduce(at, d, pl)
	return 0, err
}
