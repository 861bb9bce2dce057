// Package tuple measures tuple.Pool beside maps that hold tuples: lookup, acquire and release, and memory.
//
//	go test -run='^$' -bench='Contains|AcquireRelease' -benchtime=20ms ./bench/tuple
//	go test -run='^$' -bench=Memory -benchtime=1x ./bench/tuple
//
// A map knows only which tuples are held. To acquire one, it draws random ports until one is free. So it picks
// uniformly, but needs 1,000 tries for the last of 1,000 ports, and must try every port to find out that none is free.
// It has no cool-down, no sources and no waiters; a Pool has. gVisor's PortManager walks on from a random port and has
// no lookup. Its walks are short here, because no destination is more than 2 % full. The maps do not know their size
// beforehand and may shrink, because a program that dials does not know how many tuples it will hold.
//
// In Contains half of the lookups are for tuples that are held. The others are for ports of the pool towards the same
// destinations. With writes=10, ten operations of a hundred are an acquire and the release of its tuple, in turn. All
// lookups are drawn beforehand. impl=none does nothing: it measures the benchmark's own work, which is part of every
// other figure.
package tuple
