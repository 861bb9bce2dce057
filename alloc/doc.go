// Package alloc allocates port numbers.
//
// A [Set] says which ports there are; [Ports] says which of them are in use and picks among the rest, uniformly at
// random and in constant time however few are left. Neither knows addresses, sockets or a clock: a NAT or a network
// stack in user space can use them as they are. Package tuple builds 4-tuples on them.
//
// The numbers are unpredictable to an observer, as RFC 6056 asks for: every pick draws fresh from math/rand/v2's
// top-level generator, and there is no table or counter whose state a port could reveal.
package alloc
