package alloc

// NewFrom is New with a source of random numbers. Ports calls it with and without holding its lock.
func NewFrom(allowed Set, rand func() uint64) *Ports {
	p := New(allowed)
	p.rand = rand
	return p
}
