package held

import (
	"net/netip"
	"sort"

	"github.com/ephemera-go/ephemera/internal/ports"
)

// PerPrefix is how many addresses of one prefix are used at most. It is all of the widest IPv4 prefix.
const PerPrefix = 1 << 32

// Sources are the source addresses of one family, numbered from 0 without being enumerated. Those that are handed out
// are live. After them come the drained ones, which hold tuples from before. The zero Sources are none. They do not
// change once they are in use.
type Sources struct {
	blocks []block // the live ones, ascending and disjoint, and then the drained ones
	live   int     // how many blocks are live
	n      uint64  // live addresses
	any    bool    // the one address stands for all

	capacity uint64 // how many ports the live ones have
}

// block is the addresses of one prefix, and which of their ports are handed out.
type block struct {
	first      Addr
	begin, end uint64 // their numbers, end not included
	table      *ports.Allowed
	own        bool // the ports are its own, and not those of the pool
}

// find returns the number of an address of the block.
func (b *block) find(a Addr) (number uint64, ok bool) {
	number = a.lo - b.first.lo
	return b.begin + number, a.hi == b.first.hi && number < b.end-b.begin
}

// AnySource returns the sources of a pool that leaves the address to the operating system: one address stands for all.
func AnySource(unspecified netip.Addr, table *ports.Allowed) *Sources {
	s := &Sources{any: true}
	s.add(block{first: AddrFrom(unspecified), end: 1, table: table})
	return s
}

// Add adds the addresses of a prefix. It must come after those that were added before, and not overlap them. If own is
// true, the ports are its own, so that WithPorts does not change them.
func (s *Sources) Add(p netip.Prefix, table *ports.Allowed, own bool) {
	count := uint64(PerPrefix)
	if host := p.Addr().BitLen() - p.Bits(); host < 32 {
		count = 1 << host
	}
	s.add(block{AddrFrom(p.Addr()), s.n, s.n + count, table, own})
}

func (s *Sources) add(b block) {
	s.blocks = append(s.blocks, b)
	s.live++
	s.n = b.end
	s.capacity += (b.end - b.begin) * uint64(b.table.Len())
}

// Len returns how many addresses are live.
func (s *Sources) Len() uint64 { return s.n }

// Prefixes returns how many prefixes are live.
func (s *Sources) Prefixes() int { return s.live }

// Any reports whether the one address stands for all.
func (s *Sources) Any() bool { return s.any }

// Capacity returns how many ports the live addresses have in all.
func (s *Sources) Capacity() uint64 { return s.capacity }

// Fit reports whether the number of each address, a drained one included, fits a Hold.
func (s *Sources) Fit() bool {
	return len(s.blocks) == 0 || s.blocks[len(s.blocks)-1].end <= MaxSources
}

// Drained reports whether some addresses are drained.
func (s *Sources) Drained() bool { return s.live < len(s.blocks) }

// At returns the address of a number.
func (s *Sources) At(number uint64) Addr {
	b := s.block(number)
	return Addr{b.first.hi, b.first.lo + number - b.begin}
}

// IsLive reports whether a number is that of a live address.
func (s *Sources) IsLive(number uint64) bool { return number < s.n }

func (s *Sources) block(number uint64) *block {
	if b := &s.blocks[0]; number < b.end {
		return b
	}
	return &s.blocks[sort.Search(len(s.blocks), func(i int) bool { return s.blocks[i].end > number })]
}

func (s *Sources) table(number uint64) *ports.Allowed { return s.block(number).table }

// Find returns what names a port of an address. It fails if the address is none of the sources.
func (s *Sources) Find(a Addr, port uint16) (h Hold, ok bool) {
	if port == 0 || len(s.blocks) == 0 {
		return 0, false
	}
	if s.any {
		if first := s.blocks[0].first; a.Is4() != first.Is4() {
			return 0, false
		} else if a = first; len(s.blocks) == 1 {
			return HoldOf(0, port), true
		}
	}
	number, ok := s.number(a, port)
	return HoldOf(number, port), ok
}

// HandsOut reports whether h is a port of a live source.
func (s *Sources) HandsOut(h Hold) bool {
	return s.IsLive(h.Number()) && s.table(h.Number()).Contains(h.Port())
}

// HandOut reports whether any live source has this port.
func (s *Sources) HandOut(port uint16) bool {
	for i := range s.blocks[:s.live] {
		if s.blocks[i].table.Contains(port) {
			return true
		}
	}
	return false
}

// Meet reports whether the live address src, or any one if that is zero, has a port that is in the table too.
func (s *Sources) Meet(src Addr, table *ports.Allowed) bool {
	var last *ports.Allowed
	for i := range s.blocks[:s.live] {
		b := &s.blocks[i]
		if _, in := b.find(src); b.table == last || src != (Addr{}) && !in {
			continue
		}
		if last = b.table; last.Meets(table) {
			return true
		}
	}
	return false
}

// number returns the source that a port of an address belongs to: the live one if it has that port, else the first of
// the drained ones that has it. It fails if the address is no source, or is past the bound of its prefix.
func (s *Sources) number(a Addr, port uint16) (number uint64, ok bool) {
	number, ok = s.Live(a)
	if len(s.blocks) == s.live || ok && s.table(number).Contains(port) {
		return number, ok
	}
	for i := range s.blocks[s.live:] {
		b := &s.blocks[s.live+i]
		if drained, in := b.find(a); in && b.table.Contains(port) {
			return drained, true
		}
	}
	return number, ok
}

// Live returns the number of an address, if it is live.
func (s *Sources) Live(a Addr) (number uint64, ok bool) {
	if s.live == 0 {
		return 0, false
	}
	b := &s.blocks[0]
	if s.live > 1 {
		after := sort.Search(s.live, func(i int) bool {
			first := s.blocks[i].first
			return first.hi > a.hi || first.hi == a.hi && first.lo > a.lo
		})
		b = &s.blocks[max(after, 1)-1]
	}
	return b.find(a)
}
