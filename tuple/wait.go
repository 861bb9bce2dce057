package tuple

import (
	"context"
	"time"

	"github.com/ephemera-go/ephemera/internal/cooling"
	"github.com/ephemera-go/ephemera/internal/held"
	"github.com/ephemera-go/ephemera/internal/waiting"
)

const defaultMaxWaiters = 1024

type (
	flow   = waiting.Flow[flowClass, asked, outcome]
	line   = waiting.Line[flowClass, asked, outcome]
	room   = waiting.Room[flowClass, asked, outcome]
	hall   = waiting.Hall[flowClass, asked, outcome]
	waiter = waiting.Waiter[flowClass, asked, outcome]
)

// flowClass is what all waiters of a flow ask for.
type flowClass struct {
	class
	key   held.Key
	owner string
}

// asked is what a waiter asks for, and the shard that it asks.
type asked struct {
	ask
	sh *shard
}

// outcome is what a waiter gets, unless its context ends first.
type outcome struct {
	tuple Tuple
	err   error
}

func (a *ask) flowClass() flowClass { return flowClass{a.class(), a.Key, a.Owner} }

// line returns the line for a destination, a new one if there is none.
func (sh *shard) line(key held.Key) *line {
	l := sh.lines.Get(key)
	if l == nil {
		l = waiting.NewLine(new(room), func() {
			if l := sh.lines.Get(key); l != nil && l.IsEmpty() {
				sh.lines.Delete(key)
			}
		})
		sh.lines.Put(key, l)
	}
	return l
}

// roomFor returns the room of the line that a would join, nil if that line is empty.
func (sh *shard) roomFor(a *ask, pl *plan) *room {
	if f := sh.waits.Flow(a.flowClass()); f != nil {
		return f.Room()
	}
	if q := pl.quota; q != nil && q.stops(a.Owner) != noQuota {
		return &q.room
	}
	if l := sh.lines.Get(a.Key); l != nil {
		return l.Room()
	}
	return nil
}

// lineFor returns the line that a joins: that of its owner if a quota stops it, else that of its destination.
func (sh *shard) lineFor(a *ask, pl *plan) *line {
	if f := sh.waits.Flow(a.flowClass()); f != nil {
		return f.Line()
	}
	if q := pl.quota; q != nil && q.stops(a.Owner) != noQuota {
		return q.owner(a.Owner).line
	}
	return sh.line(a.Key)
}

// join puts a waiter for a in line. It returns nil if the line is full.
func (sh *shard) join(a *ask, pl *plan) *waiter {
	if pl.maxWaiters < 0 {
		return nil
	}
	if in := sh.roomFor(a, pl); in != nil && in.Len() >= pl.maxWaiters {
		w := in.Displaced(a.Owner)
		if w == nil {
			return nil
		}
		give(w, outcome{err: w.Ask.sh.refused(&w.Ask.ask, ErrQueueFull)})
	}
	w := sh.waits.Join(a.flowClass(), a.Owner, asked{*a, sh}, pl.arrivals.Add(1), sh.lineFor(a, pl))
	sh.setWake()
	return w
}

// wait waits for an acquire that found nothing. It unlocks the shard.
func (sh *shard) wait(ctx context.Context, a *ask, pl *plan, waits func()) (Tuple, error) {
	w := sh.join(a, pl)
	if w == nil {
		err := sh.refused(a, ErrQueueFull)
		sh.mu.Unlock()
		return Tuple{}, err
	}
	sh.mu.Unlock()
	if waits != nil {
		whileIn(w, waits)
	}
	return await(ctx, w)
}

// give gives a waiter its outcome, and takes it out of line.
func give(w *waiter, o outcome) {
	w.Give(o)
	w.Ask.sh.stopWake()
}

// grant gives a tuple that is in use to the first of a flow.
func grant(f *flow, h held.Hold, pl *plan) {
	w := f.First()
	give(w, outcome{tuple: w.Ask.tuple(h, pl)})
}

// serve gives the tuples that are free towards a destination to those in line for it, first come, first served. A flow
// that a quota stops moves to the line for that quota. serve ends early if a flow that waits for the quotas, and that
// they no longer stop, came before the next one here.
func (sh *shard) serve(key held.Key, pl *plan) {
	l := sh.lines.Get(key)
	if l == nil {
		return
	}
	hash, q := key.Hash(pl.Hash), pl.quota
	l.Offer(func(f *flow) waiting.Verdict {
		at := sh.held.Find(key, hash)
		if !sh.hasAny(at, pl) {
			return waiting.Stop
		}
		if q != nil {
			if q.stops(f.Owner()) != noQuota {
				f.MoveTo(q.owner(f.Owner()).line)
				return waiting.Again
			}
			if next := q.next(); next != nil && next.Before(f) {
				return waiting.Stop
			}
		}
		h, ok := sh.acquire(at, &f.First().Ask.ask, pl)
		if !ok {
			return waiting.Skip
		}
		grant(f, h, pl)
		return waiting.Again
	})
}

// hasAny reports whether acquire may find a tuple for some request.
func (sh *shard) hasAny(at held.Place, pl *plan) bool {
	c := at.Counts()
	return pl.mayUse(c.InUse) && (!at.IsFull(&pl.Rules) || pl.reuses && c.Retired > 0)
}

// serveWaiters serves those who wait for the quotas and those who wait for a destination, first come, first served,
// after a tuple towards that destination came free.
func (sh *shard) serveWaiters(key held.Key, pl *plan) {
	if pl.quota != nil || sh.waits.Len() > 0 {
		sh.serveAll(key, pl)
	}
}

func (sh *shard) serveAll(key held.Key, pl *plan) {
	for {
		sh.serve(key, pl)
		if pl.quota == nil || !pl.quota.serveNext() {
			return
		}
	}
}

// setWake sets a timer while somebody waits and a tuple cools down. When the first tuple has cooled down, the timer
// calls settle, which serves the waiters.
func (sh *shard) setWake() {
	next := sh.cool.Next()
	if !sh.isWaitedFor() || next == never {
		return
	}
	in := time.Duration(next - now())
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

// stopWake stops the timer if nobody waits.
func (sh *shard) stopWake() {
	if sh.wake != nil && !sh.isWaitedFor() {
		sh.wake.Stop()
		sh.wake = nil
	}
}

// isWaitedFor reports whether somebody waits for what may come free in sh. If somebody waits for a quota, that is any
// tuple.
func (sh *shard) isWaitedFor() bool {
	q := sh.plan.Load().quota
	return sh.waits.Len() > 0 || q != nil && q.room.Len() > 0
}

// whileIn runs a hook while w is in line. If the hook panics or calls runtime.Goexit, w leaves the line, and what it
// was given is freed.
func whileIn(w *waiter, hook func()) {
	returned := false
	defer func() {
		if returned {
			return
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if t, err := await(ctx, w); err == nil {
			sh := w.Ask.sh
			sh.mu.Lock()
			defer sh.mu.Unlock()
			pl := sh.plan.Load()
			h, _ := pl.find(w.Ask.Key, &t)
			sh.retire(w.Ask.Key, w.Ask.Hash, h, cooling.Firm, 0, pl)
		}
	}()
	hook()
	returned = true
}

// await waits until w has its outcome or ctx ends.
func await(ctx context.Context, w *waiter) (Tuple, error) {
	select {
	case got := <-w.Got():
		return got.tuple, got.err
	case <-ctx.Done():
	}
	sh := w.Ask.sh
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.settle(sh.plan.Load())
	select {
	case got := <-w.Got():
		// Both happened. Others may have failed because this tuple was in use, so the waiter must take it.
		return got.tuple, got.err
	default:
	}
	err := sh.refused(&w.Ask.ask, ctx.Err())
	w.Leave()
	sh.stopWake()
	return Tuple{}, err
}
