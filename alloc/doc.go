// Package alloc allocates port numbers.
//
// A [Set] is a set of port numbers. A [Ports] allocates the ports of a Set: it knows which of them are in use, and
// picks a free one uniformly at random. A pick takes constant time, even if few ports are free.
//
// The package has no addresses, sockets or clock, so a NAT or a network stack in user space can use it. Package tuple
// allocates 4-tuples.
//
// An observer cannot predict the next port, as RFC 6056 demands. Each pick draws new random numbers from the top-level
// generator of math/rand/v2. There is no table or counter whose state a port could reveal.
package alloc
