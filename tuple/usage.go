package tuple

import (
	"iter"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/ephemera-go/ephemera/internal/held"
)

// Usage counts the tuples towards one destination at one instant.
type Usage struct {
	Dst     netip.AddrPort // the destination; under Pool.Scope the one that Scope returned
	InUse   int            // tuples in use
	Retired int            // tuples that are cooling down
	Taken   int            // tuples that others have: see Taken
	Waiting int            // Acquire calls that wait, except those that wait for MaxTuples or MaxPerOwner

	// HighWater is the most tuples that were in use or retired at once, since the last time that there was none.
	HighWater int

	// Free is how many more tuples can be acquired now: the free ports of all sources together, or less if
	// MaxPerDestination or MaxTuples allows less. Retired and taken tuples are not free. MaxPerOwner, ReuseRetired and
	// Close do not change Free. It is math.MaxInt if the number does not fit.
	Free int

	At time.Time // the instant
}

// Usage counts the tuples towards dst. It takes one lock and O(1), or O(number of sources in use towards dst) while
// SetSources has drained some.
func (p *Pool) Usage(dst netip.AddrPort) Usage {
	key := p.space(held.AddrFrom(dst.Addr()), dst.Port())
	if !key.IsValid() {
		return Usage{Dst: dst, At: time.Now()}
	}
	sh, hash := p.ready().shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	pl := sh.plan.Load()
	sh.settle(pl)
	return sh.usage(key, sh.held.Find(key, hash), pl, time.Now())
}

// Destinations yields the Usage of each destination that has a tuple in use, retired or taken, or an Acquire call that
// waits, in no order.
//
// Each destination is seen at one instant, but not all at the same instant. One that comes or goes during the loop may
// be left out. None is yielded twice. The loop may use p, because no lock is held while it runs. Destinations takes 64
// locks, one after the other, each for the time to look at a 64th of the destinations.
func (p *Pool) Destinations() iter.Seq[Usage] {
	return func(yield func(Usage) bool) {
		st := p.ready()
		var list []Usage
		for i := range st.shards {
			list = st.shards[i].usages(list[:0])
			for _, u := range list {
				if !yield(u) {
					return
				}
			}
		}
	}
}

// HeldFrom returns how many tuples from the addresses of a prefix are in use, retired or taken. Once it returns 0 for a
// source that SetSources drained, the source may be removed from its interface. Taken tuples count because the
// connections of others would break too. It looks at every destination, under one lock after the other.
func (p *Pool) HeldFrom(prefix netip.Prefix) int {
	prefix = unmapped(prefix)
	n := 0
	st := p.ready()
	for i := range st.shards {
		sh := &st.shards[i]
		sh.mu.Lock()
		pl := sh.plan.Load()
		sh.settle(pl)
		for at := range sh.held.All {
			from := pl.Sources(at.Key())
			for number, tuples := range at.Sources {
				if prefix.Contains(from.At(number).Netip()) {
					n += tuples
				}
			}
		}
		sh.mu.Unlock()
	}
	return n
}

// usages appends the Usage of each destination of a shard.
func (sh *shard) usages(list []Usage) []Usage {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	pl := sh.plan.Load()
	sh.settle(pl)
	list = slices.Grow(list, sh.held.Len())
	t := time.Now()
	for at := range sh.held.All {
		list = append(list, sh.usage(at.Key(), at, pl, t))
	}
	for key := range sh.lines.All() {
		if at := sh.held.Find(key, key.Hash(pl.Hash)); !at.Held() {
			list = append(list, sh.usage(key, at, pl, t))
		}
	}
	return list
}

// usage returns the Usage of a destination. at is its place, or the one that it would have.
func (sh *shard) usage(key held.Key, at held.Place, pl *plan, t time.Time) Usage {
	c := at.Counts()
	u := Usage{Dst: key.Netip(), InUse: c.InUse, Retired: c.Retired, Taken: c.Taken, HighWater: c.Peak, At: t}
	if l := sh.lines.Get(key); l != nil {
		u.Waiting = l.Room().Len()
	}
	from := pl.Sources(key)
	u.Free = saturate(from.Capacity() - heldLive(at, c, from))
	if pl.maxPerDst > 0 {
		u.Free = min(u.Free, max(0, pl.maxPerDst-c.InUse))
	}
	if q := pl.quota; q != nil {
		u.Free = min(u.Free, max(0, q.max-q.held))
	}
	return u
}

// heldLive returns how many of the tuples held towards a destination are from live sources. The capacity of the live
// sources minus this number is free.
func heldLive(at held.Place, c held.Counts, from *held.Sources) (n uint64) {
	if !from.Drained() {
		return uint64(c.InUse + c.Retired + c.Taken)
	}
	if at.Held() {
		for number, tuples := range at.Sources {
			if from.IsLive(number) {
				n += uint64(tuples)
			}
		}
	}
	return n
}

// Forecast estimates how long the free tuples last. It assumes that Free goes on falling as fast as it has since an
// earlier Usage of the same destination. If no tuple is free, left is 0. If Free has not fallen, or earlier is not from
// before, ok is false. The estimate is of little use if SetSources was called in between.
func (u Usage) Forecast(earlier Usage) (left time.Duration, ok bool) {
	gone, in := earlier.Free-u.Free, u.At.Sub(earlier.At)
	switch {
	case u.Free == 0:
		return 0, true
	case u.Dst != earlier.Dst || gone <= 0 || in <= 0:
		return 0, false
	}
	f := float64(u.Free) / float64(gone) * float64(in)
	if f >= math.MaxInt64 {
		return math.MaxInt64, true
	}
	return time.Duration(f), true
}
