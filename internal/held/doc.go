// Package held keeps which tuples are held towards which destinations, and chooses the next one.
//
// It has no lock, no clock and nobody who waits. Its caller has one lock for each [Table]. Only [Look] works without
// it.
//
// A destination is a [Key]. What is held towards it are [Hold] values, each the number of a source address and a port
// of it. A Table finds the [Place] of a destination, which answers what is held there and changes it. A destination
// with up to three tuples lies in its slot of a hash table, in 32 bytes for IPv4. One with more has a structure of its
// own. A caller does not see the difference.
package held
