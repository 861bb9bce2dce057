// Package tuple allocates 4-tuples: (source address, source port, destination address, destination port).
//
// A connection is named by all four numbers, so one source port can serve every destination at once. A [Pool] keeps
// one port space per (source address, destination address, destination port) and hands out tuples that are free in
// theirs. A [Tuple] is the four numbers; a [Key] is a Tuple less its source port, and names a port space.
//
// No socket is involved: a NAT or a network stack in user space can use the package as it is. Package dialer opens
// connections by it.
package tuple
