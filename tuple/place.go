package tuple

import "sync/atomic"

// place is where a destination lies: a slot.
type place struct {
	e *entries
	s *slots
	i int
}

func (at place) entry() *entry { return at.s.at(at.i) }

// destination returns the destination of a large entry, nil if it is not one.
func (at place) destination() *destination {
	if at.s == nil || !at.entry().isLarge() {
		return nil
	}
	return at.s.largeAt(at.i).Load()
}

func (at place) contains(h hold, pl *plan) bool {
	if d := at.destination(); d != nil {
		return d.contains(h, pl)
	}
	return at.entry().find(h) >= 0
}

// isInUse reports whether the tuple is in use, as opposed to free or retired.
func (at place) isInUse(h hold, pl *plan) bool {
	if d := at.destination(); d != nil {
		return d.isInUse(h, pl)
	}
	j := at.entry().find(h)
	return j >= 0 && !at.entry().isRetired(j)
}

// has reports whether the tuple is held, without the lock. It does not always know.
func (e *entries) has(key dstKey, hash uint64, h hold, pl *plan) (held, known bool) {
	seq := e.seq.Load()
	if seq&1 != 0 {
		return false, false
	}
	at, found := e.find(key, hash)
	known = true
	if found {
		switch en := at.entry(); {
		case atomic.LoadUint64(&en[0])&metaLarge == 0:
			held = en.has(h)
		case at.s.large == nil: // there is another table by now
			known = false
		default:
			d := at.s.largeAt(at.i).Load()
			if known = d != nil; known {
				held, known = d.has(h, pl)
			}
		}
	}
	return held, known && e.seq.Load() == seq
}

// addLarge adds an entry for key, which must not be in, with a destination of its own.
func (e *entries) addLarge(key dstKey, hash uint64, pl *plan) *destination {
	d := newDestination(key, pl.sources(key), pl)
	e.setLarge(e.add(key, hash, 0, [laneCount]uint64{}), d)
	return d
}

// enlarge moves the tuples of an entry to a destination of its own.
func (e *entries) enlarge(at place, pl *plan) *destination {
	key, en := at.s.key(at.i), at.entry()
	d := newDestination(key, pl.sources(key), pl)
	d.turn = (en.lane(en.turnLane()).number() + 1) % d.from.n
	for j := range laneCount {
		h := en.lane(j)
		if h.port() == 0 {
			continue
		}
		d.reserve(h, pl)
		if en.isRetired(j) {
			d.retire(h, 0, pl)
		}
	}
	e.setLarge(at, d)
	return d
}

// reduce drops the destination of a large entry if nobody waits and no more than one tuple is held, and the entry if none
// is.
func (e *entries) reduce(at place, d *destination, pl *plan) {
	held := d.inUse + d.retired
	if d.isWaitedFor() || held > 1 || held == 1 && !pl.lanes {
		return
	}
	if held == 0 {
		e.remove(at)
	} else {
		meta, lanes := d.lanes(pl)
		e.setSmall(at, meta, lanes)
		d.release(hold(lanes[0]), pl)
	}
	d.free(pl)
}
