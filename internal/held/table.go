package held

// Table is what is held towards the destinations of one lock. The zero Table is empty. It must not be copied after its
// first use. It is not safe for concurrent use, except for Begin.
type Table struct{ v4, v6 family }

func (t *Table) family(key Key) *family {
	if key.Is6() {
		return &t.v6
	}
	return &t.v4
}

// Len returns how many destinations there are.
func (t *Table) Len() int { return t.v4.n + t.v6.n }

// Find returns the place of a destination, which need not be in. It is valid until the Table changes.
func (t *Table) Find(key Key, hash uint64) Place { return t.family(key).find(key, hash) }

// All yields the places of all destinations, in no order. The loop must not add or remove any.
func (t *Table) All(yield func(Place) bool) {
	for _, f := range []*family{&t.v4, &t.v6} {
		s := f.slots.Load()
		if s == nil {
			continue
		}
		for i := range s.all {
			if !yield(Place{f, f.slots.Load(), i, true}) {
				return
			}
		}
	}
}

// Place is where a destination lies in a Table, or would lie if it were in. What it does is part of the Table, and
// makes every Place of it invalid.
type Place struct {
	f     *family
	s     *slots
	i     int
	found bool
}

func (at Place) slot() *slot { return at.s.at(at.i) }

// large returns the structure of a large destination, nil if it is not one.
func (at Place) large() *destination {
	if !at.found || !at.slot().isLarge() {
		return nil
	}
	return at.s.largeAt(at.i).Load()
}

// Held reports whether anything is held towards the destination.
func (at Place) Held() bool { return at.found }

// Key returns the destination, which must be in.
func (at Place) Key() Key { return at.s.key(at.i) }

// Counts counts what is held.
func (at Place) Counts() Counts {
	if !at.found {
		return Counts{}
	}
	if d := at.large(); d != nil {
		return Counts{d.inUse, d.retired, d.taken, d.peak}
	}
	inUse, retired := at.slot().counts()
	return Counts{InUse: inUse, Retired: retired, Peak: at.slot().peak()}
}

// State returns how a tuple stands. It is Free if the tuple is not held, whether the pool hands it out or not.
func (at Place) State(h Hold) State {
	if !at.found {
		return Free
	}
	if d := at.large(); d != nil {
		return d.state(h)
	}
	s := at.slot()
	switch j := s.find(h); {
	case j < 0:
		return Free
	case s.isRetired(j):
		return Retired
	}
	return InUse
}

// IsFull reports whether no live source has a free port.
func (at Place) IsFull(r *Rules) bool {
	d := at.large()
	return d != nil && d.full.n == d.from.n
}

// Acquire takes a free tuple into use. It fails only if none is free that a asks for. The Place is invalid after that
// too, because a destination may become large for the search.
func (at Place) Acquire(a *Ask, r *Rules) (h Hold, ok bool) {
	if d := at.large(); d != nil {
		return d.acquire(a, r)
	}
	if a.Ports == nil && r.cells {
		if h, ok = at.acquireCell(a, r); ok {
			return h, true
		}
	}
	at, d := at.f.enlarge(at, a.Key, a.Hash, r)
	h, ok = d.acquire(a, r)
	at.f.reduce(at, d, r)
	return h, ok
}

// acquireCell is Acquire of any port into a cell. It fails if none is free.
func (at Place) acquireCell(a *Ask, r *Rules) (h Hold, ok bool) {
	var s *slot
	j := 0
	if at.found {
		s = at.slot()
		if j = s.freeCell(0); j < 0 {
			return 0, false
		}
	}
	from := r.Sources(a.Key)
	number, live := uint64(0), from.n > 0
	if a.Src != (Addr{}) {
		number, live = from.Live(a.Src)
	} else if from.n > 1 {
		number = r.choose(a, nil, s)
	}
	if !live {
		return 0, false
	}
	if at.found {
		return s.acquire(j, number, from, a.Rand, r.Rand), true
	}
	h = HoldOf(number, from.table(number).Draw(a.Rand, r.Rand))
	at.f.add(a.Key, a.Hash, metaNew, [cellCount]uint64{uint64(h)}, r)
	return h, true
}

// Reserve takes a tuple into use that must be free, and handed out by the pool. The destination is key.
func (at Place) Reserve(key Key, hash uint64, h Hold, r *Rules) {
	switch d := at.large(); {
	case d != nil:
		d.reserve(h, r)
	case at.found && at.slot().reserve(h):
	case !at.found && r.cells: // cell 1 says whose turn it is
		turn := HoldOf(r.firstTurn(r.Sources(key)), 0)
		at.f.add(key, hash, metaNew|1<<metaTurn, [cellCount]uint64{uint64(h), uint64(turn)}, r)
	default:
		_, d := at.f.enlarge(at, key, hash, r)
		d.reserve(h, r)
	}
}

// Retire makes a tuple in use one that is retired.
func (at Place) Retire(h Hold) {
	if d := at.large(); d != nil {
		d.retire(h)
		return
	}
	s := at.slot()
	s.retire(s.find(h))
}

// Reuse makes a tuple that is retired or taken one in use.
func (at Place) Reuse(h Hold, r *Rules) {
	if d := at.large(); d != nil {
		d.reuse(h)
		at.f.reduce(at, d, r) // nothing may be taken any more
		return
	}
	s := at.slot()
	s.reuse(s.find(h))
}

// Yield makes a tuple in use one that is taken: others have it.
func (at Place) Yield(h Hold, r *Rules) {
	d := at.large()
	if d == nil {
		_, d = at.f.enlarge(at, at.Key(), 0, r)
	}
	d.inUse--
	d.take(h)
	if d.inUse+d.retired == 0 {
		d.peak = 0
	}
}

// Take makes a free tuple, which the pool must hand out, one that is taken. The destination is key.
func (at Place) Take(key Key, hash uint64, h Hold, r *Rules) {
	d := at.large()
	if d == nil {
		_, d = at.f.enlarge(at, key, hash, r)
	}
	d.hold(h, r)
	d.take(h)
}

// Free frees a tuple that is held, and returns how it stood.
func (at Place) Free(h Hold, r *Rules) (was State) {
	if d := at.large(); d != nil {
		s := d.find(h.Number())
		was = s.state(h.Port())
		d.release(s, h.Port(), was, r)
		at.f.reduce(at, d, r)
		return was
	}
	was = InUse
	j := at.slot().find(h)
	if at.slot().isRetired(j) {
		was = Retired
	}
	at.freeCell(j, r)
	return was
}

// Release frees a tuple that is in use. It fails if the tuple is not.
func (at Place) Release(h Hold, r *Rules) bool {
	if !at.found {
		return false
	}
	if d := at.large(); d != nil {
		s := d.find(h.Number())
		if s == nil || !s.held.Contains(h.Port()) || s.state(h.Port()) != InUse {
			return false
		}
		d.release(s, h.Port(), InUse, r)
		at.f.reduce(at, d, r)
		return true
	}
	j := at.slot().find(h)
	if j < 0 || at.slot().isRetired(j) {
		return false
	}
	at.freeCell(j, r)
	return true
}

func (at Place) freeCell(j int, r *Rules) {
	if at.slot().release(j) {
		at.f.remove(at, r)
	}
}

// Tuples yields what is held, in no order.
func (at Place) Tuples(yield func(Hold, State) bool) {
	if d := at.large(); d != nil {
		for s := range d.all {
			for port := range s.held.All() {
				if !yield(HoldOf(s.number(), port), s.state(port)) {
					return
				}
			}
		}
		return
	}
	s := at.slot()
	for j := range cellCount {
		if h := s.cell(j); h.Port() != 0 && !yield(h, at.State(h)) {
			return
		}
	}
}

// Sources yields the number of each source from which something is held, and how many tuples that are. A number may
// come twice.
func (at Place) Sources(yield func(number uint64, tuples int) bool) {
	if d := at.large(); d != nil {
		for s := range d.all {
			if !yield(s.number(), s.held.Len()) {
				return
			}
		}
		return
	}
	s := at.slot()
	for j := range cellCount {
		if h := s.cell(j); h.Port() != 0 && !yield(h.Number(), 1) {
			return
		}
	}
}
