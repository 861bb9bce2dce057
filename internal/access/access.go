// Package access lets package dialer use what a tuple.Pool does not show its users.
//
// Package tuple provides its unexported methods, and package dialer gets them with Of. The types are parameters, so
// that this package imports neither.
package access

import (
	"iter"
	"net/netip"
	"sync/atomic"
	"time"
)

// Methods are the methods of a pool that only package dialer calls. All of them are safe for concurrent use.
//
// A tuple is named as Pool.All names it. In a pool without Sources the source address of a tuple handed in does not
// matter.
type Methods[Pool, Tuple, State, Set any] struct {
	// RetireForKernel ends the use of a tuple as Pool.Retire does, because the kernel still holds the tuple. If d is
	// not positive, the tuple is free at once. Claim, Free and FreeUnless may end such a cool-down early. It fails if
	// the tuple is not in use.
	RetireForKernel func(p *Pool, t Tuple, d time.Duration) bool

	// Yield ends the use of a tuple that others turn out to have. It is taken for d or, if d is negative, until
	// Claim, Free or FreeUnless ends that; if d is 0, it is free at once. It no longer counts in any quota, and those
	// who wait for a quota are served. It fails if the tuple is not in use. Of the hooks it runs only Trace.Released.
	Yield func(p *Pool, t Tuple, d time.Duration) bool

	// Take makes a free tuple one that is taken, as Yield does. It fails if the tuple is not free, or if d is 0. It
	// runs no hook.
	Take func(p *Pool, t Tuple, d time.Duration) bool

	// Claim takes a tuple into use for an owner as Pool.ReserveFor does, if it is free, retired for the kernel or
	// taken. It returns how the tuple stood before. It fails if the pool no longer hands out the tuple.
	Claim func(p *Pool, t Tuple, owner string) (was State, ok bool)

	// Free frees a tuple that is retired for the kernel or taken, and gives it to whoever waits for it. It fails for
	// any other.
	Free func(p *Pool, t Tuple) bool

	// FreeUnless frees the tuples towards dst that have been retired for the kernel or taken for at least the age,
	// except those for which held is true. It gives them to those who wait, and returns how many it freed. It calls
	// held under a lock, so held must not use the pool. It looks through all tuples that are retired or taken in a
	// 64th of the pool.
	FreeUnless func(p *Pool, dst netip.AddrPort, age time.Duration, held func(Tuple) bool) int

	// SetPorts replaces the ports of a pool whose field Ports is zero, while the pool is in use. Sources that have
	// ports of their own keep them. Tuples in use, retired or taken on ports that left stay so, and are given back as
	// before. It does nothing if the pool has the same ports already. It fails if the field Ports is set, if the pool
	// is closed or does not work, and if the set is empty.
	SetPorts func(p *Pool, ports Set) error

	// HasSource reports whether the pool hands out source addresses of the family of an address. It takes no lock,
	// and does not look at the clock.
	HasSource func(p *Pool, family netip.Addr) bool

	// HandsOut reports whether the pool hands out this port of a source address now, when it is free. The unspecified
	// address of a family stands for every source of that family.
	HandsOut func(p *Pool, src netip.Addr, port uint16) bool

	// Watch watches tuples until stop is called. Then ended reports whether a use of one of them has ended since, or is
	// just about to end, which State cannot tell: a tuple that is in use now, and was then, may be in use again. Until
	// stop, each end of a use in the pool looks into the list.
	Watch func(p *Pool, tuples iter.Seq[Tuple]) (ended func(Tuple) bool, stop func())

	// Slot returns a place in the pool where package dialer keeps what it remembers of the pool. The pool does not
	// use it.
	Slot func(p *Pool) *atomic.Value
}

// provided is what Provide was given.
var provided any

// Provide makes the methods those that Of returns. Package tuple calls it once, when its package variables are
// initialized.
func Provide[Pool, Tuple, State, Set any](m Methods[Pool, Tuple, State, Set]) struct{} {
	provided = m
	return struct{}{}
}

// Of returns the methods that package tuple provides. The types must be those of package tuple, and its Set that of
// package alloc.
func Of[Pool, Tuple, State, Set any]() Methods[Pool, Tuple, State, Set] {
	return provided.(Methods[Pool, Tuple, State, Set])
}
