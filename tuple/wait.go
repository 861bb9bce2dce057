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

// flowClass is what the waiters of a flow have in common.
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

// outcome is what comes of waiting, unless the context ends first.
type outcome struct {
	tuple Tuple
	err   error
}

func (a *ask) flowClass() flowClass { return flowClass{a.class(), a.Key, a.Owner} }

// line returns where those wait who wait for a destination.
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

// roomFor returns the room of those who wait for what keeps a from being served, nil if nobody does.
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

// lineFor returns the line for what keeps a from being served: of the quotas, or of its destination.
func (sh *shard) lineFor(a *ask, pl *plan) *line {
	if f := sh.waits.Flow(a.flowClass()); f != nil {
		return f.Line()
	}
	if q := pl.quota; q != nil && q.stops(a.Owner) != noQuota {
		return q.owner(a.Owner).line
	}
	return sh.line(a.Key)
}

// join puts a waiter in line for what keeps a from being served. It returns nil if all places are used.
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

// wait serves an acquire for which acquire found nothing, and unlocks. Without a context it fails at once.
func (sh *shard) wait(ctx context.Context, a *ask, pl *plan, waits func()) (Tuple, error) {
	var err error
	var w *waiter
	if ctx == nil {
		err = sh.refused(a, nil)
	} else if w = sh.join(a, pl); w == nil {
		err = sh.refused(a, ErrQueueFull)
	}
	sh.mu.Unlock()
	if err != nil {
		return Tuple{}, err
	}
	if waits != nil {
		whileIn(w, waits)
	}
	return await(ctx, w)
}

// give gives a waiter what comes of waiting, and takes it out of line.
func give(w *waiter, o outcome) {
	w.Give(o)
	w.Ask.sh.stopWake()
}

// grant gives a tuple that is in use to the first of a flow.
func grant(f *flow, h held.Hold, pl *plan) {
	w := f.First()
	give(w, outcome{tuple: w.Ask.tuple(h, pl)})
}

// serve gives those in line for a destination what is free towards it, first come, first served, except those whom the
// quotas stop: they wait for these from now on. It ends early where somebody who waits for the quotas, and now need
// not, came before.
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

// hasAny reports whether acquire may find something for somebody.
func (sh *shard) hasAny(at held.Place, pl *plan) bool {
	c := at.Counts()
	return pl.mayUse(c.InUse) && (!at.IsFull(&pl.Rules) || pl.reuses && c.Retired > 0)
}

// serveBoth gives those who wait for the quotas, or for the destination towards which something came free, what there is
// for them, first come, first served.
func (sh *shard) serveBoth(key held.Key, pl *plan) {
	for {
		sh.serve(key, pl)
		if pl.quota == nil || !pl.quota.serveNext() {
			return
		}
	}
}

// setWake sees to it that those who wait get what comes free by itself: while somebody waits and something cools down,
// a timer calls settle when the first of it comes free.
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
	return sh.waits.Len() > 0 || q != nil && q.room.Len() > 0
}

// whileIn runs a hook while w is in line. If the hook does not return, by a panic or runtime.Goexit, w leaves the
// line, and what it was given is free.
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

// await waits for what its place in line brings a waiter.
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
		// Both happened. The tuple was in use meanwhile, so others may have failed because of it: the waiter has it.
		return got.tuple, got.err
	default:
	}
	err := sh.refused(&w.Ask.ask, ctx.Err())
	w.Leave()
	sh.stopWake()
	return Tuple{}, err
}
