package tuple

import (
	"hash/maphash"
	"math/bits"
)

// Policy says which of the sources a Pool takes a tuple from, among those that have a free port.
type Policy uint8

const (
	// RoundRobin has the sources take turns towards each destination.
	RoundRobin Policy = iota

	// LeastUsed takes the source of whose ports the fewest are held towards the destination, in use or retired.
	LeastUsed

	// StickyDestination always takes the same source towards the same destination.
	StickyDestination

	// StickyOwner always takes the same source for the same Request.Owner, so that a client leaves from the same address
	// wherever it goes. A request without one is served as by RoundRobin.
	//
	// Both sticky policies take another source, again the same one each time, while the first has no free port. When a
	// prefix is added to the list or taken out, only as many destinations or owners change theirs as fall to it or fell
	// to it (rendezvous hashing); a prefix that is cut up counts as others. List single addresses if they come and go
	// one by one. The hash is keyed anew in each Pool.
	StickyOwner

	// Random takes each source with the same probability.
	Random
)

// stickyTries is how many sources a sticky policy names in order, before those with a free port are taken in turn.
const stickyTries = 8

// choose returns a live source to begin with towards a large destination or, if d is nil, towards one of which en is
// all that is held, if anything is. It may be one without a free port.
func (sh *shard) choose(a *ask, pl *plan, d *destination, en *entry) uint64 {
	from := pl.sources(a.key)
	if from.n == 1 {
		return 0
	}
	switch policy := pl.policy; {
	case policy == Random && d != nil:
		return d.full.random(from.n, pl.rand)
	case policy == Random:
		return below(from.n, pl.rand())
	case policy == LeastUsed && d != nil:
		return d.leastUsed(pl)
	case policy == LeastUsed && en != nil:
		return en.leastUsed(from.n, pl)
	case policy == StickyDestination:
		return sh.sticky(from, d, a.key.hash(sh.v4.seed))
	case policy == StickyOwner && a.owner != "":
		return sh.sticky(from, d, maphash.String(pl.owners, a.owner))
	case d != nil:
		return d.turn
	case en != nil:
		return en.turn(from.n)
	}
	return randomTurn(from)
}

// sticky returns the first source with a free port of those that the hash names.
func (sh *shard) sticky(from *sources, d *destination, hash uint64) uint64 {
	first := from.rendezvous(hash)
	for try, number := uint64(1), first; ; try++ {
		if d == nil || !d.full.has(number) {
			return number
		}
		if try == stickyTries {
			return first
		}
		number = from.rendezvous(mix(hash + try))
	}
}

// below returns a number below n, all but equally likely: the bias is n/2^64.
func below(n, r uint64) uint64 {
	hi, _ := bits.Mul64(r, n)
	return hi
}

// leastUsed returns a source that the fewest lanes hold a port of. Of any four sources one is in no lane.
func (en *entry) leastUsed(n uint64, pl *plan) (best uint64) {
	least := laneCount + 1
	number := below(n, pl.rand())
	for range min(n, laneCount+1) {
		held := 0
		for j := range laneCount {
			if h := en.lane(j); h.port() != 0 && h.number() == number {
				held++
			}
		}
		if held < least {
			best, least = number, held
		}
		if number++; number == n {
			number = 0
		}
	}
	return best
}

// leastUsed returns a source with the fewest tuples among those with a free port.
func (d *destination) leastUsed(pl *plan) uint64 {
	if d.used.n < d.from.n {
		return d.used.next(below(d.from.n, pl.rand()), d.from.n)
	}
	if l := d.levels.lowest; l != nil {
		return l.sources[below(uint64(len(l.sources)), pl.rand())].number()
	}
	return 0 // all are full
}
