package tuple

import (
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"sort"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/internal/ports"
)

// perPrefix bounds how many addresses of one prefix are handed out. It is all of the widest IPv4 one.
const perPrefix = 1 << 32

// Source is addresses to send from, and the ports of each.
type Source struct {
	Prefix netip.Prefix // all of its addresses, as in Pool.Sources
	Ports  alloc.Set    // the zero Set means those of the Pool
}

// sources is the source addresses of one family, numbered from 0 without being enumerated. After the live ones come
// those that are drained: they hold tuples from before, and are given to nobody.
type sources struct {
	blocks []sourceBlock // the live ones ascending and disjoint
	live   int           // how many of them are
	n      uint64        // live addresses; the drained ones have the numbers from here on
	any    bool          // the one address stands for all

	capacity uint64 // how many ports the live ones have
}

// sourceBlock is the addresses of one prefix, and which of their ports are handed out.
type sourceBlock struct {
	first      addr
	begin, end uint64 // their numbers, end not included
	table      *ports.Allowed
	own        bool // whether they are ports of its own, and not those of the pool
}

// find returns the number of an address of the block.
func (b *sourceBlock) find(a addr) (number uint64, ok bool) {
	number = a.lo - b.first.lo
	return b.begin + number, a.hi == b.first.hi && number < b.end-b.begin
}

// What no source may be, beside the unspecified addresses. An IPv4-mapped prefix is looked at as the IPv4 one that it
// is.
var (
	multicast4 = netip.MustParsePrefix("224.0.0.0/4")
	multicast6 = netip.MustParsePrefix("ff00::/8")
	mapped     = netip.MustParsePrefix("::ffff:0:0/96")
)

// anySource is the sources of a Pool that has none: the one address that stands for all.
func anySource(unspecified netip.Addr, table *ports.Allowed) sources {
	return sources{blocks: []sourceBlock{{first: addrFrom(unspecified), end: 1, table: table}}, live: 1, n: 1, any: true}
}

// sourcesFrom sorts a list by family. A prefix that lies within another is not counted twice. The errors call the
// list what.
func sourcesFrom(what string, list []Source, table func(alloc.Set) *ports.Allowed) (v4, v6 sources, err error) {
	clean := make([]Source, len(list))
	for i, s := range list {
		p := s.Prefix
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		p = p.Masked()
		switch {
		case !p.IsValid():
			return v4, v6, fmt.Errorf("tuple: %s[%d] is not a valid prefix: a single address is written as 192.0.2.1/32", what, i)
		case p.Addr().IsUnspecified():
			return v4, v6, fmt.Errorf("tuple: %s[%d], %v, is no address to send from: leave Sources empty to let the operating system pick one", what, i, p)
		case p.Addr().IsMulticast():
			return v4, v6, fmt.Errorf("tuple: %s[%d], %v, is multicast: nothing is sent from there", what, i, p)
		case p.Overlaps(multicast4) || p.Overlaps(multicast6) || p.Overlaps(mapped):
			return v4, v6, fmt.Errorf("tuple: %s[%d], %v, is too wide: it holds multicast or IPv4-mapped addresses", what, i, p)
		case !s.Ports.IsZero() && s.Ports.Len() == 0:
			return v4, v6, fmt.Errorf("tuple: %s[%d], %v, has a set without a port: leave Ports zero for those of the Pool", what, i, p)
		}
		clean[i] = Source{p, s.Ports}
	}
	slices.SortStableFunc(clean, func(a, b Source) int { return a.Prefix.Compare(b.Prefix) })
	var last Source
	for _, s := range clean {
		if last.Prefix.IsValid() && last.Prefix.Contains(s.Prefix.Addr()) {
			if !table(s.Ports).Equal(table(last.Ports)) {
				return v4, v6, fmt.Errorf("tuple: %s: %v lies within %v, and has other ports", what, s.Prefix, last.Prefix)
			}
			continue
		}
		last = s
		if s.Prefix.Addr().Is4() {
			v4.add(s.Prefix, table(s.Ports), !s.Ports.IsZero())
		} else {
			v6.add(s.Prefix, table(s.Ports), !s.Ports.IsZero())
		}
	}
	return v4, v6, v6.checkNumbers(what)
}

// checkNumbers returns an error if a number does not fit a hold.
func (s *sources) checkNumbers(what string) error {
	if len(s.blocks) == 0 || s.blocks[len(s.blocks)-1].end <= maxSources {
		return nil
	}
	return fmt.Errorf("tuple: %s has %d IPv6 prefixes: of those with 2^32 addresses or more, which count as 2^32, it can use %d", what, len(s.blocks), maxSources/perPrefix)
}

func (s *sources) add(p netip.Prefix, table *ports.Allowed, own bool) {
	count := uint64(perPrefix)
	if host := p.Addr().BitLen() - p.Bits(); host < bits.Len64(perPrefix)-1 {
		count = 1 << host
	}
	s.blocks = append(s.blocks, sourceBlock{addrFrom(p.Addr()), s.n, s.n + count, table, own})
	s.live++
	s.n += count
}

// drain adds a block that is no longer live.
func (s *sources) drain(b sourceBlock) {
	begin := s.n
	if len(s.blocks) > s.live {
		begin = s.blocks[len(s.blocks)-1].end
	}
	s.blocks = append(s.blocks, sourceBlock{b.first, begin, begin + b.end - b.begin, b.table, b.own})
}

// block returns the block of a number.
func (s *sources) block(number uint64) *sourceBlock {
	if b := &s.blocks[0]; number < b.end {
		return b
	}
	return &s.blocks[sort.Search(len(s.blocks), func(i int) bool { return s.blocks[i].end > number })]
}

// at returns the address of a number.
func (s *sources) at(number uint64) addr {
	b := s.block(number)
	return addr{b.first.hi, b.first.lo + number - b.begin}
}

// table returns the ports of a number.
func (s *sources) table(number uint64) *ports.Allowed { return s.block(number).table }

// find returns the source and port of a tuple. It fails if t is not from one of the sources, of the family of its
// destination.
func (s *sources) find(t *Tuple) (hold, bool) {
	if t.srcPort == 0 || len(s.blocks) == 0 || t.src.is4() != t.dst.is4() {
		return 0, false
	}
	src := t.src
	if s.any {
		if len(s.blocks) == 1 {
			return holdOf(0, t.srcPort), true
		}
		src = s.blocks[0].first
	}
	number, ok := s.number(src, t.srcPort)
	return holdOf(number, t.srcPort), ok
}

// handOut reports whether h is a port of a live source.
func (s *sources) handOut(h hold) bool {
	return h.number() < s.n && s.table(h.number()).Contains(h.port())
}

// number returns the source that a port of an address belongs to: the live one if it has that port, else the first of
// the drained that has. It fails if the address is not a source, or is past the bound of its prefix.
func (s *sources) number(a addr, port uint16) (number uint64, ok bool) {
	number, ok = s.liveNumber(a)
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

// liveNumber returns the number of an address, if it is live.
func (s *sources) liveNumber(a addr) (number uint64, ok bool) {
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
