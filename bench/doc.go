// Package bench measures ephemera against what else does its job.
//
//   - alloc and tuple are Go benchmarks of the two allocators.
//   - dial is a command: what a dial costs while the local ports fill up.
//   - churn is a command: how many connections a client opens and closes if it closes first, with TIME_WAIT in the way.
//   - cost is a command: what a short connection costs if the peer closes first, and a UDP socket.
//   - scale is a command: one Pool that grows to a billion tuples.
//   - report runs them all and writes RESULTS.md from what they print, which raw keeps.
//
// It is a module of its own, so that nobody who imports ephemera inherits its peers.
package bench
