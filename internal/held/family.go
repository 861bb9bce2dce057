package held

import "sync/atomic"

// family is the destinations of one address family in a Table. Its memory follows how many there are.
//
// Changes need the caller's lock. A Look does not: what it reads is stored atomically, and one that saw it out of
// order, because slots moved meanwhile, finds seq changed.
type family struct {
	slots atomic.Pointer[slots]
	seq   atomic.Uint64 // odd while slots move, or become or cease to be large; it stays when one is added
	n     int
	large int // how many destinations are large
}

// find returns the place of key. It may be called without the lock.
func (f *family) find(key Key, hash uint64) Place {
	s := f.slots.Load()
	if s == nil {
		return Place{f: f}
	}
	i, found := s.find(key, hash)
	return Place{f, s, i, found}
}

// add puts in a slot for key, which must not be in.
func (f *family) add(key Key, hash, meta uint64, cells [cellCount]uint64, r *Rules) Place {
	s := f.slots.Load()
	if s == nil || 4*(f.n+1) > 3*s.n {
		keyWords := 1
		if key.Is6() {
			keyWords = 3
		}
		s = f.resize(max(minSlots, 2*(f.n+1)), keyWords, r)
	}
	f.n++
	i, _ := s.find(key, hash)
	s.put(i, key, meta, cells)
	return Place{f, s, i, true}
}

// remove empties a slot, and moves up those that another one kept from a better place.
func (f *family) remove(at Place, r *Rules) {
	s, i := at.s, at.i
	f.seq.Add(1)
	f.n--
	if s.at(i).isLarge() {
		s.largeAt(i).Store(nil)
		f.large--
	}
	for j := s.next(i); s.words[j] != 0; j = s.next(j) {
		key := s.key(j)
		home := s.home(key.Hash(r.Hash))
		if s.distance(home, j) < s.distance(i, j) {
			continue // it would lie before its home
		}
		from := s.at(j)
		s.put(i, key, from[0]&metaBits, [cellCount]uint64(from[1:]))
		if from.isLarge() {
			s.largeAt(i).Store(s.largeAt(j).Load())
			s.largeAt(j).Store(nil)
		}
		i = j
	}
	empty := s.at(i)
	empty.setLast(0)
	for j := range cellCount {
		if empty[1+j] != 0 {
			empty.setCell(j, 0)
		}
	}
	f.seq.Add(1)
	if s.n > minSlots && 4*f.n < s.n {
		f.resize(max(minSlots, 2*f.n), s.keyWords, r)
	}
}

// resize makes a table of n slots. A Look may go on with the one before, which stays as it is.
func (f *family) resize(n, keyWords int, r *Rules) *slots {
	next := newSlots(n, keyWords)
	if f.large > 0 {
		next.large = make([]atomic.Pointer[destination], n)
	}
	if s := f.slots.Load(); s != nil {
		for i := range s.all {
			from, key := s.at(i), s.key(i)
			j, _ := next.find(key, key.Hash(r.Hash))
			next.put(j, key, from[0]&metaBits, [cellCount]uint64(from[1:]))
			if from.isLarge() {
				next.largeAt(j).Store(s.largeAt(i).Load())
			}
		}
	}
	f.slots.Store(next)
	return next
}

// enlarge gives a destination, which need not be in yet, a structure of its own, and returns that.
func (f *family) enlarge(at Place, key Key, hash uint64, r *Rules) (Place, *destination) {
	d := newDestination(key, r)
	if at.found {
		s := at.slot()
		d.turn, d.peak = s.turn(d.from.n), s.peak()
		for j := range cellCount {
			if h := s.cell(j); h.Port() != 0 {
				d.reserve(h, r)
				if s.isRetired(j) {
					d.retire(h)
				}
			}
		}
	} else {
		at = f.add(key, hash, 0, [cellCount]uint64{}, r)
	}
	s := at.s
	if s.large == nil {
		s = &slots{s.words, s.n, s.size, s.keyWords, make([]atomic.Pointer[destination], s.n)}
		f.slots.Store(s)
	}
	f.seq.Add(1)
	s.largeAt(at.i).Store(d)
	s.put(at.i, key, metaLarge, [cellCount]uint64{})
	f.large++
	f.seq.Add(1)
	return Place{f, s, at.i, true}, d
}

// reduce is the inverse of enlarge, if what d holds fits a slot: no more than one tuple, which is not taken. It removes
// a destination that holds nothing.
func (f *family) reduce(at Place, d *destination, r *Rules) {
	held := d.inUse + d.retired
	if held == 0 {
		d.peak = 0
	}
	if held > 1 || d.taken > 0 || held == 1 && (!r.cells || d.peak > mostPeak) {
		return
	}
	if held == 0 {
		f.remove(at, r)
	} else {
		meta, cells := d.cells()
		f.seq.Add(1)
		at.s.put(at.i, at.s.key(at.i), meta, cells)
		at.s.largeAt(at.i).Store(nil)
		f.large--
		f.seq.Add(1)
		h := Hold(cells[0])
		one := d.find(h.Number())
		d.release(one, h.Port(), one.state(h.Port()), r)
	}
	d.free(r)
}
