// Package alloc measures alloc.Ports beside other ways to hand out ports:
//
//	go test -run='^$' -bench=. -benchtime=20ms ./bench/alloc
//
// Each contender is what a competent author would write in its way: those that can count what is in use do, and so
// say at once that nothing is free. gVisor's PortManager has no count, and does not say whether what it releases was
// in use.
//
// Ports are in use in one of two orders. In order=own the contender took them by its own picks, and keeps what comes
// of it: one that walks on from a random port grows clusters of used ports, and walks through them. In order=random
// all contenders hold the same ports, drawn at random; a walk is shorter there than it ever is in use. Ephemera, the
// free list and the model pick uniformly, so that the two are alike for them.
//
// An operation is an acquire and the release of what it got. impl=none does nothing: what it takes is the benchmark's
// own work, and part of every other figure. What gVisor does near full takes tens of milliseconds, so that a cell
// takes ten operations if its time is over before.
package alloc
