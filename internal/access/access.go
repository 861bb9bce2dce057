// Package access gives package dialer access to methods of a tuple.Pool that are not public.
//
// Package tuple calls Provide with these methods, and package dialer gets them from Of. The types are parameters, so
// that this package imports neither.
package access

import (
	"iter"
	"net/netip"
	"sync/atomic"
	"time"
)

// Methods are the methods of a pool for package dialer only. They are safe for concurrent use.
//
// They name tuples as Pool.All does. A pool without Sources ignores the source address of a tuple.
type Methods[Pool, Tuple, State, Set any] struct {
	// RetireForKernel retires a tuple as Pool.Retire does, because the kernel still holds the tuple. If d is not
	// positive, the tuple is free at once. Claim, Free and FreeUnless may end the cool-down early. It fails if the
	// tuple is not in use.
	RetireForKernel func(p *Pool, t Tuple, d time.Duration) bool

	// Yield turns a tuple in use into a taken one, because others have it. The tuple is taken for d. If d is negative,
	// it is taken until Claim, Free or FreeUnless ends that. If d is 0, it is free at once. A taken tuple counts in no
	// quota, so Yield serves waiters that wait for a quota. The only hook it runs is Trace.Released. It fails if the
	// tuple is not in use.
	Yield func(p *Pool, t Tuple, d time.Duration) bool

	// Take turns a free tuple into a taken one for d, as Yield does. It runs no hook. It fails if the tuple is not
	// free, or if d is 0.
	Take func(p *Pool, t Tuple, d time.Duration) bool

	// Claim takes a tuple into use for an owner as Pool.ReserveFor does, if it is free, retired for the kernel or
	// taken. It returns how the tuple stood before. It fails if the pool no longer hands out the tuple.
	Claim func(p *Pool, t Tuple, owner string) (was State, ok bool)

	// Free frees a tuple that is retired for the kernel or taken, and gives it to a waiter if there is one. It fails
	// for any other tuple.
	Free func(p *Pool, t Tuple) bool

	// FreeUnless frees the tuples towards dst that have been retired for the kernel or taken for at least age, except
	// those for which held returns true. It gives them to waiters, and returns how many it freed. It calls held under a
	// lock, so held must not use the pool. It looks through all tuples that are retired or taken in a 64th of the pool.
	FreeUnless func(p *Pool, dst netip.AddrPort, age time.Duration, held func(Tuple) bool) int

	// SetPorts replaces the ports of a pool whose field Ports is zero, also while the pool is in use. Sources with
	// ports of their own keep them. Tuples that are in use, retired or taken stay so if their port is no longer in the
	// set. They are given back as before. SetPorts does nothing if the pool has the same ports already. It fails if the
	// field Ports is set, if the pool is closed or its configuration is invalid, or if the set is empty.
	SetPorts func(p *Pool, ports Set) error

	// HasSource reports whether the pool has source addresses of the family of the given address. It takes no lock and
	// does not read the clock.
	HasSource func(p *Pool, family netip.Addr) bool

	// HandsOut reports whether the pool hands out this port of a source address at present, if it is free. The
	// unspecified address of a family stands for every source of that family.
	HandsOut func(p *Pool, src netip.Addr, port uint16) bool

	// Watch watches tuples until stop is called. Meanwhile ended reports whether the use of a tuple has ended since the
	// watch began, or is about to end. State cannot tell that, because the tuple may be in use again. Until stop is
	// called, the pool looks into the list at each end of a use.
	Watch func(p *Pool, tuples iter.Seq[Tuple]) (ended func(Tuple) bool, stop func())

	// Slot returns a place in the pool for data of package dialer. The pool does not use it.
	Slot func(p *Pool) *atomic.Value
}

var provided any // the argument of Provide

// Provide stores the methods for Of. Package tuple calls it once, when its package variables are initialized.
func Provide[Pool, Tuple, State, Set any](m Methods[Pool, Tuple, State, Set]) struct{} {
	provided = m
	return struct{}{}
}

// Of returns the methods that package tuple has given to Provide. Pool, Tuple and State must be the types of package
// tuple, and Set that of package alloc.
func Of[Pool, Tuple, State, Set any]() Methods[Pool, Tuple, State, Set] {
	return provided.(Methods[Pool, Tuple, State, Set])
}
