package alloc

import (
	"iter"
	"math/bits"
	"sync"

	"github.com/bits-and-blooms/bitset"

	"github.com/ephemera-go/ephemera/internal/access"
	"github.com/ephemera-go/ephemera/internal/ports"
)

// Set is an immutable set of ports. Port 0, which names no port, is in no Set.
//
// The zero Set is empty. A Set may be copied, and is safe for concurrent use. Compare sets with Equal: == tells only
// whether one is a copy of the other.
type Set struct{ m *members }

// members is what the copies of a Set share.
type members struct {
	bits  *bitset.BitSet
	n     int
	table func() *ports.Allowed // for the allocator, built when it is first asked for
}

func newSet(b *bitset.BitSet) Set {
	b.Clear(0)
	m := &members{bits: b, n: int(b.Count())}
	m.table = sync.OnceValue(func() *ports.Allowed { return ports.Allow(Set{m}.All()) })
	return Set{m}
}

func newBits() *bitset.BitSet { return bitset.New(1 << 16) }

// RangeSet returns the set of the ports from first to last, both inclusive. It is empty if first is greater than last.
func RangeSet(first, last uint16) Set {
	b := newBits()
	setRange(b, first, last)
	return newSet(b)
}

func setRange(b *bitset.BitSet, first, last uint16) {
	b.SetRange(uint(first), uint(last)+1)
}

// IsZero reports whether s is the zero Set, which in a configuration means "not set", as opposed to a set that came out
// empty.
func (s Set) IsZero() bool { return s.m == nil }

// Len returns the number of ports in s.
func (s Set) Len() int {
	if s.m == nil {
		return 0
	}
	return s.m.n
}

// Equal reports whether s and t are the same ports. The zero Set equals any other Set that is empty.
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

// Slice returns the i-th, from 0, of n disjoint slices that together are s and whose sizes differ by at most one. Each
// holds ports that follow one another in s. With the same s and n, hosts or processes that take different i never meet.
// It is empty if there is no i-th of n.
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

// share returns total*i/n, for 0 <= i <= n. The product may not fit an int.
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

// table returns what the allocator needs to know of s.
func (s Set) table() *ports.Allowed {
	if s.m == nil {
		return nothing
	}
	return s.m.table()
}
