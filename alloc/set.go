package alloc

import (
	"iter"
	"math/bits"
	"sync"

	"github.com/bits-and-blooms/bitset"

	"github.com/ephemera-go/ephemera/internal/access"
	"github.com/ephemera-go/ephemera/internal/ports"
)

// Set is an immutable set of ports from 1 to 65535. Port 0 is in no Set.
//
// The zero Set is empty. A Set may be copied. It is safe for concurrent use. Compare sets with Equal: the operator ==
// reports only whether one is a copy of the other.
type Set struct{ m *members }

// members are shared by the copies of a Set.
type members struct {
	bits  *bitset.BitSet
	n     int
	table func() *ports.Allowed // for the allocator; built on first use
}

func newSet(b *bitset.BitSet) Set {
	b.Clear(0)
	m := &members{bits: b, n: int(b.Count())}
	m.table = sync.OnceValue(func() *ports.Allowed { return ports.Allow(Set{m}.All()) })
	return Set{m}
}

func newBits() *bitset.BitSet { return bitset.New(1 << 16) }

// RangeSet returns the set of the ports from first to last, both included. It is empty if first is greater than last.
func RangeSet(first, last uint16) Set {
	b := newBits()
	setRange(b, first, last)
	return newSet(b)
}

func setRange(b *bitset.BitSet, first, last uint16) {
	b.SetRange(uint(first), uint(last)+1)
}

// IsZero reports whether s is the zero Set. In a configuration the zero Set means "not set", and an empty Set that is
// not zero means "no ports".
func (s Set) IsZero() bool { return s.m == nil }

// Len returns the number of ports in s.
func (s Set) Len() int {
	if s.m == nil {
		return 0
	}
	return s.m.n
}

// Equal reports whether s and t have the same ports. The zero Set equals any other empty Set.
func (s Set) Equal(t Set) bool {
	return s.m == t.m || s.Len() == t.Len() && s.bits().DifferenceCardinality(t.bits()) == 0
}

// Contains reports whether port is in s.
func (s Set) Contains(port uint16) bool { return s.m != nil && s.m.bits.Test(uint(port)) }

// All returns the ports of s in ascending order.
func (s Set) All() iter.Seq[uint16] {
	return func(yield func(uint16) bool) {
		for port := range s.bits().EachSet() {
			if !yield(uint16(port)) {
				return
			}
		}
	}
}

// Union returns the ports that are in s, in t or in both.
func (s Set) Union(t Set) Set { return newSet(s.bits().Union(t.bits())) }

// Intersect returns the ports that are in both s and t.
func (s Set) Intersect(t Set) Set { return newSet(s.bits().Intersection(t.bits())) }

// Difference returns the ports that are in s but not in t.
func (s Set) Difference(t Set) Set { return newSet(s.bits().Difference(t.bits())) }

// Slice divides s into n disjoint slices and returns slice i, where i counts from 0 to n-1. The slices together are s,
// and their sizes differ by at most one. Each slice has ports that follow one another in s. Hosts or processes that use
// the same s and n, and a different i each, never have a port in common. The result is empty if i is out of range.
func (s Set) Slice(i, n int) Set {
	b := newBits()
	if 0 <= i && i < n {
		first, end := share(s.Len(), i, n), share(s.Len(), i+1, n)
		rank := 0
		for port := range s.All() {
			if rank >= end {
				break
			}
			if rank >= first {
				b.Set(uint(port))
			}
			rank++
		}
	}
	return newSet(b)
}

// share returns total*i/n, for 0 <= i <= n. The product may be greater than an int can hold.
func share(total, i, n int) int {
	hi, lo := bits.Mul64(uint64(total), uint64(i))
	quotient, _ := bits.Div64(hi, lo, uint64(n))
	return int(quotient)
}

func (s Set) bits() *bitset.BitSet {
	if s.m == nil {
		return &bitset.BitSet{}
	}
	return s.m.bits
}

var nothing = new(ports.Allowed)

var _ = access.ProvideTable(Set.table)

// table returns s in the form that the allocator uses.
func (s Set) table() *ports.Allowed {
	if s.m == nil {
		return nothing
	}
	return s.m.table()
}
