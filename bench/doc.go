// Package bench measures ephemera beside other software that does its job.
//
//   - alloc and tuple are Go benchmarks of the two allocators.
//   - dial is a command. It measures what a dial costs while the local ports fill up.
//   - churn is a command. It measures how many connections a client opens and closes if it closes first, so that
//     TIME_WAIT stands in its way.
//   - cost is a command. It measures what a short connection costs if the peer closes first, and what a UDP socket
//     costs.
//   - scale is a command. It measures one Pool that grows to a billion tuples.
//   - report runs all of them. It keeps what they print in raw, and writes RESULTS.md from that.
//
// It is a module of its own, so that a program that imports ephemera does not inherit the other libraries.
package bench
