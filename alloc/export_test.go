package alloc

// NewFrom is New with random numbers of the caller's. Ports draws them under its lock.
func NewFrom(allowed Set, rand func() uint64) *Ports {
	p := New(allowed)
	p.rand = rand
	return p
}
