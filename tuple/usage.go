package tuple

import (
	"iter"
	"math"
	"net/netip"
	"slices"
	"time"
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
	key := p.space(addrFrom(dst.Addr()), dst.Port())
	sh, hash := p.ready().shard(key)
	mu := sh.lock()
	defer mu.Unlock()
	pl := sh.plan.Load()
	sh.settle(pl)
	if at, found := sh.entries(key).find(key, hash); found {
		return at.usage(pl, time.Now())
	}
	u := Usage{Dst: dst, At: time.Now()}
	if key.isValid() {
		u.Dst, u.Free = key.netip(), saturate(pl.sources(key).capacity)
	}
	return u
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
		var looks []Usage
		for i := range st.shards {
			looks = st.shards[i].look(looks[:0])
			for _, u := range looks {
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
	if a := prefix.Addr(); a.Is4In6() && prefix.Bits() >= 96 {
		prefix = netip.PrefixFrom(a.Unmap(), prefix.Bits()-96)
	}
	n := 0
	st := p.ready()
	for i := range st.shards {
		sh := &st.shards[i]
		mu := sh.lock()
		pl := sh.plan.Load()
		sh.settle(pl)
		for at := range sh.all {
			n += at.heldFrom(prefix, pl.sources(at.s.key(at.i)))
		}
		mu.Unlock()
	}
	return n
}

func (at place) heldFrom(prefix netip.Prefix, from *sources) (n int) {
	if d := at.destination(); d != nil {
		for s := range d.all {
			if prefix.Contains(from.at(s.number()).netip()) {
				n += s.held.Len(s.table)
			}
		}
		return n
	}
	for _, w := range at.entry()[1:] {
		if h := hold(w); h.port() != 0 && prefix.Contains(from.at(h.number()).netip()) {
			n++
		}
	}
	return n
}

// look appends how the destinations of a shard stand.
func (sh *shard) look(looks []Usage) []Usage {
	mu := sh.lock()
	defer mu.Unlock()
	pl := sh.plan.Load()
	sh.settle(pl)
	looks = slices.Grow(looks, sh.v4.n+sh.v6.n)
	t := time.Now()
	for at := range sh.all {
		looks = append(looks, at.usage(pl, t))
	}
	return looks
}

func (at place) usage(pl *plan, t time.Time) Usage {
	key := at.s.key(at.i)
	from := pl.sources(key)
	u := Usage{Dst: key.netip(), Waiting: at.waiting(), At: t}
	if d := at.destination(); d != nil {
		u.InUse, u.Retired, u.Taken, u.HighWater = d.inUse, d.retired, d.taken, d.peak
	} else {
		en := at.entry()
		u.InUse, u.Retired = en.counts()
		u.HighWater = en.peak()
	}
	u.Free = saturate(from.capacity - at.heldLive(from, u.InUse+u.Retired+u.Taken))
	return u
}

// heldLive returns how many of the tuples in use, retired or taken are from live sources, and so ports that these do
// not have free. held is how many there are from all.
func (at place) heldLive(from *sources, held int) uint64 {
	if from.live == len(from.blocks) {
		return uint64(held)
	}
	n := uint64(0)
	if d := at.destination(); d != nil {
		for s := range d.all {
			if s.number() < from.n {
				n += uint64(s.held.Len(s.table))
			}
		}
		return n
	}
	en := at.entry()
	for j := range laneCount {
		if h := en.lane(j); h.port() != 0 && h.number() < from.n {
			n++
		}
	}
	return n
}

func saturate(n uint64) int { return int(min(n, math.MaxInt)) }

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
