package tuple

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

// waiting returns how many wait for the destination.
func (at place) waiting() int {
	if d := at.destination(); d != nil && d.waiters != nil {
		return d.waiters.crowd.n
	}
	return 0
}

func (at place) contains(h hold) bool {
	if d := at.destination(); d != nil {
		return d.contains(h)
	}
	return at.entry().find(h) >= 0
}

// counts returns how many tuples are in use, retired and taken.
func (at place) counts() (inUse, retired, taken int) {
	if d := at.destination(); d != nil {
		return d.inUse, d.retired, d.taken
	}
	inUse, retired = at.entry().counts()
	return inUse, retired, 0
}

// state is how a tuple stands that is held, Free for any other.
func (at place) state(h hold) State {
	if d := at.destination(); d != nil {
		if !d.contains(h) {
			return Free
		}
		return d.find(h.number()).state(h.port())
	}
	switch j := at.entry().find(h); {
	case j < 0:
		return Free
	case at.entry().isRetired(j):
		return Retired
	}
	return InUse
}

// isInUse reports whether the tuple is in use, as opposed to free, retired or taken.
func (at place) isInUse(h hold) bool {
	if d := at.destination(); d != nil {
		return d.isInUse(h)
	}
	j := at.entry().find(h)
	return j >= 0 && !at.entry().isRetired(j)
}
