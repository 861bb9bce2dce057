package tuple

import (
	"iter"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/ephemera-go/ephemera/internal/held"
)

// Usage is how a destination stands at one instant.
type Usage struct {
	Dst       netip.AddrPort // under Pool.Scope, the space that the destination is mapped to
	InUse     int            // tuples in use
	Retired   int            // tuples that are cooling down
	Taken     int            // tuples that are taken: see State
	Waiting   int            // Acquire calls that wait for it, and not for MaxTuples or MaxPerOwner
	HighWater int            // the most tuples held at once, in use or retired, since none was
	Free      int            // how many more the sources have now, less those taken; math.MaxInt if that is more
	At        time.Time      // the instant
}

// Usage returns how dst stands. It takes one lock, and O(1) unless sources are being drained.
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

// Destinations yields every destination towards which a tuple is in use, retired or taken, or is waited for, in no
// order.
//
// Each of them is as it was at one instant, but not all at the same. One that comes or goes meanwhile may be left
// out; none comes twice. The loop may use p: it runs under no lock. There are 64 of them, each of which is held once
// for as long as it takes to look at a 64th of the destinations.
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

// HeldFrom returns how many tuples from the addresses of a prefix are in use, retired or taken. Once it is 0, a
// source that SetSources drained may be taken off its interface: those that others have count because their
// connections would break too. It looks at every destination, under one lock after the other.
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

// usages appends how the destinations of a shard stand.
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

// usage returns how a destination stands, which lies at a place or would lie there.
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

// heldLive returns how many of the tuples held towards a destination are from live sources, and so ports that these do
// not have free.
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

// Forecast returns how long the free tuples last if they go on going as they went, on balance, since an earlier look
// at the same destination. It is 0 if none is left, whatever went before, and not ok if there are no fewer than there
// were. Two looks with a SetSources between them say little.
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
