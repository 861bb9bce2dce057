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

// held returns how many tuples are held, in use or retired.
func (at place) held() int {
	if d := at.destination(); d != nil {
		return d.inUse + d.retired
	}
	inUse, retired := at.entry().counts()
	return inUse + retired
}

// isInUse reports whether the tuple is in use, as opposed to free or retired.
func (at place) isInUse(h hold) bool {
	if d := at.destination(); d != nil {
		return d.isInUse(h)
	}
	j := at.entry().find(h)
	return j >= 0 && !at.entry().isRetired(j)
}
