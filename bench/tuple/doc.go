// Package tuple measures tuple.Pool beside maps that hold tuples: the lookup, acquire and release, and memory.
//
//	go test -run='^$' -bench=. -count=10 ./bench/tuple
//	go test -run='^$' -bench=Memory -benchtime=1x ./bench/tuple
//
// A map knows which tuples are held and no more: to acquire one it draws ports at random until it finds one that is free,
// so it picks uniformly, but needs 1,000 tries for the last of 1,000 ports, and finds out that nothing is free only by
// trying each. It has no cool-down, no sources and nobody waits. gVisor's PortManager walks on from a random port, and has
// no lookup.
package tuple
