package alloc

// NewFrom is New with random numbers of the caller's, which Ports draws under its lock and outside of it.
func NewFrom(allowed Set, rand func() uint64) *Ports {
	p := New(allowed)
	p.rand = rand
	return p
}
