// Package tuple measures tuple.Pool beside maps that hold tuples: the lookup, acquire and release, and memory.
//
//	go test -run='^$' -bench='Contains|AcquireRelease' -benchtime=20ms ./bench/tuple
//	go test -run='^$' -bench=Memory -benchtime=1x ./bench/tuple
//
// A map knows which tuples are held and no more: to acquire one it draws ports at random until it finds one that is
// free, so it picks uniformly, but needs 1,000 tries for the last of 1,000 ports, and finds out that nothing is free
// only by trying each. It has no cool-down, no sources and nobody waits: a Pool does more. gVisor's PortManager walks
// on from a random port, and has no lookup; as no destination is more than 2 % full, its walks are short. The maps
// are neither given their size beforehand nor told never to shrink, for who dials does not know.
//
// In Contains every second lookup is for a tuple that is held. The others are for ports of the pool towards the same
// destinations. With writes=10, ten operations of a hundred are an acquire or, in turn, the release of what it got. All
// that is looked up is drawn beforehand. impl=none does nothing: what it takes is the benchmark's own work, and part of
// every other figure.
package tuple
