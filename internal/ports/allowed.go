// Package ports is the core of both allocators, without locks. It keeps which ports of a fixed set are in use.
//
// An [Allowed] has the ports that may be handed out. It is immutable and shared. A [Space] has the ports in use, and
// its memory follows their number. alloc.Ports puts a mutex around a Space. A tuple.Pool keeps a Space under the lock
// of its destination.
package ports

import (
	"iter"
	"math/bits"
	"slices"
)

// Allowed is the immutable table of the ports that a Space may hand out. It is safe for concurrent use.
type Allowed struct {
	words   []uint64 // bit i stands for port base+i
	base    int      // a multiple of 64, so that the words of any two tables are aligned
	n       int
	first   int
	members []uint16 // the ports in ascending order; nil if they are contiguous, because then a port is first+rank
	probe   uint64   // 2^k-1 >= the highest bit in words
}

// Allow returns the table of the ports in seq, which must be in ascending order.
func Allow(seq iter.Seq[uint16]) *Allowed {
	var all []uint16
	for port := range seq {
		all = append(all, port)
	}
	a := &Allowed{n: len(all)}
	if a.n == 0 {
		return a
	}
	a.first = int(all[0])
	last := int(all[a.n-1])
	a.base = a.first &^ 63
	a.words = make([]uint64, (last-a.base)/64+1)
	for _, port := range all {
		i := int(port) - a.base
		a.words[i/64] |= 1 << (i % 64)
	}
	a.probe = 1<<bits.Len(uint(last-a.base)) - 1
	if last-a.first+1 != a.n {
		a.members = all[:a.n:a.n]
	}
	return a
}

// Len returns how many ports are allowed.
func (a *Allowed) Len() int { return a.n }

// Contains reports whether port is allowed.
func (a *Allowed) Contains(port uint16) bool {
	i := uint(int(port) - a.base)
	return i/64 < uint(len(a.words)) && a.words[i/64]>>(i%64)&1 != 0
}

// port returns the allowed port of this rank, which starts at 0.
func (a *Allowed) port(rank int) uint16 {
	if a.members != nil {
		return a.members[rank]
	}
	return uint16(a.first + rank)
}

// Draw returns an allowed port, each with the same probability. It uses the random number r, and rarely more from rand.
// At least one port must be allowed.
func (a *Allowed) Draw(r uint64, rand func() uint64) uint16 {
	return a.port(int(below(uint64(a.n), r, rand)))
}

// Meets reports whether a and b have a port in common.
func (a *Allowed) Meets(b *Allowed) bool {
	x, y, _ := overlap(a.words, a.base, b.words, b.base)
	for i, w := range x {
		if w&y[i] != 0 {
			return true
		}
	}
	return false
}

// Equal reports whether a and b have the same ports.
func (a *Allowed) Equal(b *Allowed) bool {
	return a == b || a.base == b.base && slices.Equal(a.words, b.words)
}
