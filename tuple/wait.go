package tuple

import (
	"container/list"
	"context"
	"time"
)

const defaultMaxWaiters = 1024

// waiter is an acquire that waits. Whoever frees what it waits for gives it to it, under the lock, so nobody barges in.
type waiter struct {
	ask
	got chan given // has room for one
}

// given is what a waiter gets.
type given struct {
	Tuple
	until int64 // when it would have come free; 0 if it was
}

// rest is how long what was given must rest yet, behind all that rests already, if it was not used.
func (g *given) rest() time.Duration {
	if g.until == 0 {
		return 0
	}
	return time.Duration(g.until - now())
}

// fits reports whether h would do.
func (a *ask) fits(h hold, from *sources) bool {
	return h.number() < from.n && (a.src == (addr{}) || a.src == from.at(h.number())) &&
		(a.table == nil || a.table.Contains(h.port()))
}

// join puts a waiter at the end of the line for its destination, towards which nothing that will do is free. It fails if the
// line is full.
func (sh *shard) join(a *ask, pl *plan) (*list.Element, bool) {
	at, _ := sh.entries(a.key).find(a.key, a.hash)
	if at.waiting() >= pl.maxWaiters {
		return nil, false
	}
	d := sh.large(a, pl)
	if d.waiters == nil {
		d.waiters = list.New()
	}
	sh.waiting++
	e := d.waiters.PushBack(&waiter{*a, make(chan given, 1)})
	sh.setWake()
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

// serve gives h, which has just become free, to the first in line that can do with it, if there is one. Nothing else that
// they wait for is free. If h was to be retired instead, until is when it would have come free.
func (sh *shard) serve(d *destination, h hold, until int64, pl *plan) {
	for e := d.waiters.Front(); e != nil; e = e.Next() {
		if w := e.Value.(*waiter); w.fits(h, d.from) {
			d.reserve(h, pl)
			sh.inUse++
			sh.leave(d, e).got <- given{w.tuple(h, d.from), until}
			return
		}
	}
}

// serveAll gives those in line what the sources have that the pool has now.
func (sh *shard) serveAll(d *destination, pl *plan) {
	if !d.isWaitedFor() {
		return
	}
	for e := d.waiters.Front(); e != nil; {
		w, next := e.Value.(*waiter), e.Next()
		until := int64(0)
		h, ok := d.acquireFor(&w.ask, sh.choose(&w.ask, pl, d, nil), pl)
		if !ok {
			h, until, ok = sh.reuse(&w.ask, d)
		}
		if ok {
			sh.inUse++
			sh.leave(d, e).got <- given{w.tuple(h, d.from), until}
		}
		e = next
	}
}

// setWake sees to it that those who wait get what cools down: while somebody waits and something is retired, a timer
// calls settle when the first of it comes free.
func (sh *shard) setWake() {
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
		sh.settle(sh.plan.Load())
		sh.setWake()
	})
}

// await waits for what its place in line brings.
func (sh *shard) await(ctx context.Context, e *list.Element) (Tuple, error) {
	w := e.Value.(*waiter)
	select {
	case got := <-w.got:
		return got.Tuple, nil
	case <-ctx.Done():
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	pl := sh.plan.Load()
	sh.settle(pl)
	select {
	case got := <-w.got: // both happened: the next in line has more use for it
		h, _ := pl.find(w.key, &got.Tuple)
		sh.retire(w.key, w.hash, h, got.rest(), pl)
		return Tuple{}, sh.exhausted(&w.ask, ctx.Err())
	default:
	}
	at, _ := sh.entries(w.key).find(w.key, w.hash)
	d := at.destination()
	sh.leave(d, e)
	err := sh.exhausted(&w.ask, ctx.Err())
	at.e.reduce(at, d, pl)
	return Tuple{}, err
}
