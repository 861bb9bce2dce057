package tuple

import (
	"container/list"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"sync"

	"github.com/ephemera-go/ephemera/internal/ports"
)

// dstKey names a destination.
type dstKey struct {
	addr addr
	port uint16
}

func dstKeyFrom(dst netip.AddrPort) dstKey { return dstKey{addrFrom(dst.Addr()), dst.Port()} }

func (k dstKey) netip() netip.AddrPort { return netip.AddrPortFrom(k.addr.netip(), k.port) }

// destination is all that is known of one destination: what is held towards it from each source, and who waits. It exists
// while it holds or waits for anything, and lies under the lock of its shard.
type destination struct {
	key            dstKey
	from           *sources // of its family
	inUse, retired int
	turn           uint64     // the number of the source whose turn it is
	full           fullSet    // the sources without a free port
	waiters        *list.List // of *waiter, in order of arrival; nil if nobody ever waited

	// Most destinations have one source in use, which lies here rather than in the map.
	first  source
	others table[addr, *source]
}

// source is the port space of one source address towards one destination.
type source struct {
	addr    addr
	number  uint64      // in sources
	held    ports.Space // in use or retired
	retired ports.Space
	used    bool
}

// Destinations come and go with every connection of a crawler, and sources where there are more of them than connections:
// spares keep that from allocating.
var (
	spares       = sync.Pool{New: func() any { return new(destination) }}
	spareSources = sync.Pool{New: func() any { return new(source) }}
)

func newDestination(key dstKey, from *sources) *destination {
	d := spares.Get().(*destination)
	d.key, d.from = key, from
	if n := from.len(); n > 1 {
		d.turn = rand.Uint64N(n) // so that short-lived destinations do not all leave from the first source
	}
	return d
}

// free gives back the memory of d, which must hold nothing, and which nothing may refer to.
func (d *destination) free() {
	*d = destination{}
	spares.Put(d)
}

// acquire takes a free port of the source whose turn it is, or of the next one that has any. It fails only when no source
// has.
func (d *destination) acquire(pl *plan) (Tuple, bool) {
	n := d.from.len()
	if d.full.n == n {
		return Tuple{}, false
	}
	number := d.full.next(d.turn, n)
	d.turn = (number + 1) % n
	s := d.source(d.from.at(number), number)
	port, _ := s.held.Acquire(pl.ports, pl.rand(), pl.rand) // s is not full
	d.took(s, pl)
	return d.tuple(s, port), true
}

// reserve takes this port of the source a, number i.
func (d *destination) reserve(a addr, i uint64, port uint16, pl *plan) bool {
	s := d.source(a, i)
	if !s.held.Reserve(pl.ports, port) {
		d.dropIfUnused(s, pl)
		return false
	}
	d.took(s, pl)
	return true
}

// took enters in the books that a port of s was taken.
func (d *destination) took(s *source, pl *plan) {
	d.inUse++
	if s.held.Len(pl.ports) == pl.ports.Len() {
		d.full.add(s.number)
	}
}

// release frees a port that is in use or, with retired set, one that was retired.
func (d *destination) release(s *source, port uint16, retired bool, pl *plan) {
	if retired {
		s.retired.Release(pl.ports, port)
		d.retired--
	} else {
		d.inUse--
	}
	if s.held.Len(pl.ports) == pl.ports.Len() {
		d.full.remove(s.number)
	}
	s.held.Release(pl.ports, port)
	d.dropIfUnused(s, pl)
}

// inUseAt reports whether the port is in use, as opposed to free or retired.
func (s *source) inUseAt(port uint16, pl *plan) bool {
	return s.held.Contains(pl.ports, port) && !s.retired.Contains(pl.ports, port)
}

// find returns the source of address a, nil if nothing is held from there.
func (d *destination) find(a addr) *source {
	if d.first.used && d.first.addr == a {
		return &d.first
	}
	return d.others.get(a)
}

// source returns the source of address a, number i.
func (d *destination) source(a addr, i uint64) *source {
	if s := d.find(a); s != nil {
		return s
	}
	if !d.first.used {
		d.first.addr, d.first.number, d.first.used = a, i, true
		return &d.first
	}
	s := spareSources.Get().(*source)
	s.addr, s.number, s.used = a, i, true
	d.others.put(a, s)
	return s
}

func (d *destination) dropIfUnused(s *source, pl *plan) {
	if s.held.Len(pl.ports) > 0 {
		return
	}
	s.used = false
	if s != &d.first {
		d.others.delete(s.addr)
		spareSources.Put(s) // it is empty
	}
}

func (d *destination) tuple(s *source, port uint16) Tuple {
	return Tuple{s.addr, d.key.addr, port, d.key.port}
}

// idle reports whether d holds nothing and nobody waits.
func (d *destination) idle() bool {
	return d.inUse == 0 && d.retired == 0 && (d.waiters == nil || d.waiters.Len() == 0)
}

// fullSet is the numbers of the sources of a destination that have no free port: a bitset of which only the words that
// are not 0 exist, for the numbers of an IPv6 prefix are large.
type fullSet struct {
	n     uint64
	words table[uint64, uint64]
}

func (f *fullSet) add(number uint64) {
	f.words.put(number/64, f.words.get(number/64)|1<<(number%64))
	f.n++
}

func (f *fullSet) remove(number uint64) {
	f.n--
	if w := f.words.get(number/64) &^ (1 << (number % 64)); w != 0 {
		f.words.put(number/64, w)
	} else {
		f.words.delete(number / 64)
	}
}

// next returns the first number from start on, going round at n, that is not in f. There must be one below n.
func (f *fullSet) next(start, n uint64) uint64 {
	if f.n == 0 {
		return start
	}
	word, open := start/64, ^uint64(0)<<(start%64)
	for {
		open &^= f.words.get(word)
		if i := word*64 + uint64(bits.TrailingZeros64(open)); open != 0 && i < n {
			return i
		}
		word, open = word+1, ^uint64(0)
		if word*64 >= n {
			word = 0
		}
	}
}
