package tuple

import "sync/atomic"

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
	d.turn = en.turn(d.from.n)
	d.peak = en.peak()
	for j := range laneCount {
		h := en.lane(j)
		if h.port() == 0 {
			continue
		}
		d.reserve(h, pl)
		if en.isRetired(j) {
			d.retire(h, 0)
		}
	}
	e.setLarge(at, d)
	return d
}

// reduce drops the destination of a large entry if nobody waits, nothing is taken and no more than one tuple is in
// use or retired, and the entry if none is.
func (e *entries) reduce(at place, d *destination, pl *plan) {
	held := d.inUse + d.retired
	if held == 0 {
		d.peak = 0
	}
	if d.isWaitedFor() || held > 1 || d.taken > 0 || held == 1 && !pl.lanes {
		return
	}
	if held == 0 {
		e.remove(at)
	} else {
		meta, lanes := d.lanes()
		e.setSmall(at, meta, lanes)
		d.release(hold(lanes[0]), pl)
	}
	d.free(pl)
}

// setLarge gives an entry a destination of its own in place of its lanes.
func (e *entries) setLarge(at place, d *destination) {
	s := at.s
	if s.large == nil {
		s = &slots{s.words, s.n, s.size, s.keyWords, make([]atomic.Pointer[destination], s.n)}
		e.slots.Store(s)
	}
	e.seq.Add(1)
	s.largeAt(at.i).Store(d)
	s.put(at.i, s.key(at.i), metaLarge, [laneCount]uint64{})
	e.large++
	e.seq.Add(1)
}

// setSmall is the inverse of setLarge.
func (e *entries) setSmall(at place, meta uint64, lanes [laneCount]uint64) {
	e.seq.Add(1)
	at.s.put(at.i, at.s.key(at.i), meta, lanes)
	at.s.largeAt(at.i).Store(nil)
	e.large--
	e.seq.Add(1)
}

// lanes returns what an entry says of d, which must hold exactly one tuple.
func (d *destination) lanes() (meta uint64, lanes [laneCount]uint64) {
	for s := range d.all {
		for port := range s.held.All(s.table) {
			lanes[0] = uint64(holdOf(s.number(), port))
		}
	}
	last := d.turn - 1
	if d.turn == 0 {
		last = max(d.from.n, 1) - 1
	}
	lanes[1] = uint64(holdOf(last, 0))
	meta = 1<<metaTurn | uint64(d.retired)
	if d.peak <= mostPeak {
		return meta | uint64(d.peak)<<metaPeak, lanes
	}
	lanes[peakLane] = uint64(holdOf(uint64(d.peak), 0))
	return meta, lanes
}
