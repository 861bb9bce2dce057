package held

// Policy says which of the sources a tuple is taken from, among those that have a free port. Package tuple documents
// each.
type Policy uint8

// The policies.
const (
	RoundRobin Policy = iota
	LeastUsed
	StickyDestination
	StickyOwner
	Random
)

// stickyTries is how many sources a sticky policy names in order, before those with a free port have their turns.
const stickyTries = 8

// choose returns the live source to begin with: for a large destination d or, if d is nil, for one of which the slot s
// is all that is held, if anything is. It may be one without a free port.
func (r *Rules) choose(a *Ask, d *destination, s *slot) uint64 {
	from := r.Sources(a.Key)
	if from.n == 1 {
		return 0
	}
	switch policy := r.Policy; {
	case policy == Random && d != nil:
		return d.full.random(from.n, r.Rand)
	case policy == Random:
		return below(from.n, r.Rand())
	case policy == LeastUsed && d != nil:
		return d.leastUsed(r)
	case policy == LeastUsed && s != nil:
		return s.leastUsed(from.n, r)
	case policy == StickyDestination:
		return from.sticky(d, a.Key.Hash(r.Sticky))
	case policy == StickyOwner && a.Owner != "":
		return from.sticky(d, r.Sticky.HashString(a.Owner))
	case d != nil:
		return d.turn
	case s != nil:
		return s.turn(from.n)
	}
	return r.firstTurn(from)
}

// firstTurn is where a new destination begins, at random so that short-lived ones do not all leave from the first
// source.
func (r *Rules) firstTurn(from *Sources) uint64 {
	if from.n <= 1 {
		return 0
	}
	return below(from.n, r.Rand())
}

// sticky returns the first source with a free port of those that the hash names.
func (s *Sources) sticky(d *destination, hash uint64) uint64 {
	first := s.rendezvous(hash)
	for try, number := uint64(1), first; ; try++ {
		if d == nil || !d.full.has(number) {
			return number
		}
		if try == stickyTries {
			return first
		}
		number = s.rendezvous(mix(hash + try))
	}
}

// leastUsed returns a source that the fewest cells hold a port of. One of any four sources is in no cell.
func (s *slot) leastUsed(n uint64, r *Rules) (best uint64) {
	least := cellCount + 1
	number := below(n, r.Rand())
	for range min(n, cellCount+1) {
		held := 0
		for j := range cellCount {
			if h := s.cell(j); h.Port() != 0 && h.Number() == number {
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
func (d *destination) leastUsed(r *Rules) uint64 {
	if d.used.n < d.from.n {
		return d.used.next(below(d.from.n, r.Rand()), d.from.n)
	}
	if l := d.levels.lowest; l != nil {
		return l.sources[below(uint64(len(l.sources)), r.Rand())].number()
	}
	return 0 // all are full
}
