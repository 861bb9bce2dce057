// Package alloc measures alloc.Ports beside other ways to hand out ports:
//
//	go test -run='^$' -bench=. -benchtime=20ms ./bench/alloc
//
// Each contender is what a competent author would write. Those that can count the ports in use do so, and find out at
// once that nothing is free. gVisor's PortManager has no count, and does not report whether a port that it releases was
// in use.
//
// The ports in use come from one of two orders:
//
//   - In order=own the contender picked them itself. A contender that starts at a random port and walks on builds
//     clusters of used ports, and then walks through them.
//   - In order=random all contenders hold the same ports, drawn at random. Walks are shorter than in practice.
//
// Ephemera, the free list and the model pick uniformly, so both orders are alike for them.
//
// An operation is an acquire and the release of that port. impl=none does nothing: it measures the benchmark's own
// work, which is part of every other figure. Near full, one operation of gVisor takes tens of milliseconds, so each
// cell does at least ten operations, even if its time is over.
package alloc
