package tuple

import (
	"container/heap"
	"container/list"
	"context"
	"sync"
	"time"
)

const defaultMaxWaiters = 1024

// waiter is an acquire that waits. Whoever frees what it waits for gives it to it, under the lock, so nobody barges in.
type waiter struct {
	ask
	arrival uint64
	flow    *flow
	at      *list.Element // in the flow
	got     chan outcome  // has room for one
}

// outcome is what comes of waiting, unless the context ends first.
type outcome struct {
	tuple Tuple
	err   error
}

// fits reports whether h would do.
func (a *ask) fits(h hold, from *sources) bool {
	return h.number() < from.n && (a.src == (addr{}) || a.src == from.at(h.number())) &&
		(a.table == nil || a.table.Contains(h.port()))
}

// lock takes the lock that sh lies under: its own or, where quotas tie the shards together, the one of them all.
func (sh *shard) lock() *sync.Mutex {
	mu := &sh.mu
	if q := sh.plan.Load().quota; q != nil {
		mu = &q.mu
	}
	mu.Lock()
	return mu
}

// join puts a waiter in line for what keeps a from being served: the quotas, or its destination. It fails if all
// places are taken.
func (sh *shard) join(a *ask, pl *plan) (*waiter, bool) {
	q := pl.quota
	f := sh.flows.get(a.class())
	var d *destination
	var c *crowd
	switch {
	case pl.maxWaiters < 0:
		return nil, false
	case f != nil:
		c = f.line.crowd
	case q != nil && q.stops(a.owner) != "":
		c = &q.crowd
	default:
		d = sh.large(a, pl)
		c = d.line().crowd
	}
	if c.n >= pl.maxWaiters {
		w := c.displaced(a.owner)
		if w == nil {
			return nil, false
		}
		w.leave()
		w.got <- outcome{err: w.flow.sh.refused(&w.ask, ErrQueueFull)}
	}
	w := &waiter{ask: *a, arrival: pl.arrivals.Add(1), flow: f, got: make(chan outcome, 1)}
	sh.waiting++
	if f != nil {
		w.at = f.waiters.PushBack(w)
		c.add(a.owner, 1)
	} else {
		f = &flow{class: a.class(), sh: sh}
		w.flow, w.at = f, f.waiters.PushBack(w)
		sh.flows.put(f.class, f)
		if d != nil {
			d.line().add(f)
		} else {
			q.owner(a.owner).line.add(f)
		}
	}
	sh.setWake()
	return w, true
}

// leave takes a waiter out of line.
func (w *waiter) leave() {
	f, sh := w.flow, w.flow.sh
	l := f.line
	if f.waiters.Len() == 1 {
		l.remove(f)
		sh.flows.delete(f.class)
	} else {
		f.waiters.Remove(w.at)
		heap.Fix(&l.flows, f.at)
		l.crowd.add(f.owner, -1)
		l.changed()
	}
	sh.waiting--
	sh.stopWake()
}

// serve gives those in line for d what is free towards it, first come, first served, but for those whom the quotas
// stop: they wait for these from now on. It ends early where somebody who waits for the quotas, and now need not,
// came before.
func (sh *shard) serve(d *destination, pl *plan) {
	if !d.isWaitedFor() {
		return
	}
	l, q := d.waiters, pl.quota
	var unfit []*flow // who can do with none of what is free
	for !l.isEmpty() && sh.hasAny(d, pl) {
		f := l.head()
		a := &f.first().ask
		if q != nil {
			if q.stops(f.owner) != "" {
				f.moveTo(&q.owner(f.owner).line)
				continue
			}
			if next := q.next(); next != nil && next.arrival() < f.arrival() {
				break
			}
		}
		h, ok := sh.take(a, d, pl)
		if !ok {
			unfit = append(unfit, heap.Pop(&l.flows).(*flow))
			continue
		}
		sh.took(a, h, pl)
		f.grant(h, pl)
	}
	for _, f := range unfit {
		heap.Push(&l.flows, f)
	}
}

// grant gives h, which is in use, to the first of f.
func (f *flow) grant(h hold, pl *plan) {
	w := f.first()
	w.leave()
	w.got <- outcome{tuple: w.tuple(h, pl.sources(w.key))}
}

// fail turns away all of f.
func (f *flow) fail(why func(*ask) error) {
	for last := false; !last; {
		w := f.first()
		last = f.waiters.Len() == 1
		w.leave()
		w.got <- outcome{err: why(&w.ask)}
	}
}

// setWake sees to it that those who wait get what comes free by itself: while somebody waits and something is
// retired, or taken for a time, a timer calls settle when the first of it comes free.
func (sh *shard) setWake() {
	if !sh.isWaitedFor() || sh.cool.empty() || sh.cool.next() == never {
		return
	}
	in := time.Duration(sh.cool.next() - now())
	if sh.wake != nil {
		sh.wake.Reset(in)
		return
	}
	sh.wake = time.AfterFunc(in, func() {
		mu := sh.lock()
		defer mu.Unlock()
		sh.settle(sh.plan.Load())
		sh.setWake()
	})
}

// stopWake stops the timer when nobody waits any more.
func (sh *shard) stopWake() {
	if sh.wake != nil && !sh.isWaitedFor() {
		sh.wake.Stop()
		sh.wake = nil
	}
}

// isWaitedFor reports whether somebody waits for what may come free in sh: anywhere, if it is a quota.
func (sh *shard) isWaitedFor() bool {
	q := sh.plan.Load().quota
	return sh.waiting > 0 || q != nil && q.crowd.n > 0
}

// whileIn runs a hook while w is in line. If the hook does not return, by a panic or runtime.Goexit, w leaves the
// line, and what it was given is free.
func (w *waiter) whileIn(hook func()) {
	returned := false
	defer func() {
		if returned {
			return
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if t, err := w.await(ctx); err == nil {
			sh := w.flow.sh
			mu := sh.lock()
			defer mu.Unlock()
			pl := sh.plan.Load()
			h, _ := pl.find(w.key, &t)
			sh.retire(w.key, w.hash, h, byPolicy, 0, pl)
		}
	}()
	hook()
	returned = true
}

// await waits for what its place in line brings.
func (w *waiter) await(ctx context.Context) (Tuple, error) {
	select {
	case got := <-w.got:
		return got.tuple, got.err
	case <-ctx.Done():
	}
	sh := w.flow.sh
	mu := sh.lock()
	defer mu.Unlock()
	pl := sh.plan.Load()
	sh.settle(pl)
	select {
	case got := <-w.got:
		// Both happened. The tuple was in use meanwhile, for which others may have failed: so it is.
		return got.tuple, got.err
	default:
	}
	err := sh.refused(&w.ask, ctx.Err())
	w.leave()
	sh.reduce(&w.ask, pl)
	return Tuple{}, err
}
