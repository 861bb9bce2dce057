package tuple

import (
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"sort"
)

// perPrefix bounds how many addresses of one prefix are handed out. It is all of the widest IPv4 one.
const perPrefix = 1 << 32

// sources is the source addresses of one family, numbered from 0 without being enumerated.
type sources struct {
	blocks []sourceBlock // ascending and disjoint
	n      uint64        // addresses in all
}

// sourceBlock is the addresses of one prefix.
type sourceBlock struct {
	first      addr
	begin, end uint64 // their numbers, end not included
}

// What no source may be, beside the unspecified addresses. An IPv4-mapped prefix is looked at as the IPv4 one that it is.
var (
	multicast4 = netip.MustParsePrefix("224.0.0.0/4")
	multicast6 = netip.MustParsePrefix("ff00::/8")
	mapped     = netip.MustParsePrefix("::ffff:0:0/96")
)

// anySource is the sources of a Pool that has none: the one address that stands for all.
func anySource(unspecified netip.Addr) sources {
	return sources{[]sourceBlock{{addrFrom(unspecified), 0, 1}}, 1}
}

// sourcesFrom sorts prefixes by family. One that lies within another is not counted twice.
func sourcesFrom(prefixes []netip.Prefix) (v4, v6 sources, err error) {
	clean := make([]netip.Prefix, len(prefixes))
	for i, p := range prefixes {
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		p = p.Masked()
		switch {
		case !p.IsValid():
			return v4, v6, fmt.Errorf("tuple: Pool.Sources[%d] is not a valid prefix: a single address is written as 192.0.2.1/32", i)
		case p.Addr().IsUnspecified():
			return v4, v6, fmt.Errorf("tuple: Pool.Sources[%d], %v, is no address to send from: leave Sources empty to let the operating system pick one", i, p)
		case p.Addr().IsMulticast():
			return v4, v6, fmt.Errorf("tuple: Pool.Sources[%d], %v, is multicast: nothing is sent from there", i, p)
		case p.Overlaps(multicast4) || p.Overlaps(multicast6) || p.Overlaps(mapped):
			return v4, v6, fmt.Errorf("tuple: Pool.Sources[%d], %v, is too wide: it holds multicast or IPv4-mapped addresses", i, p)
		}
		clean[i] = p
	}
	slices.SortFunc(clean, netip.Prefix.Compare)
	var last netip.Prefix
	for _, p := range clean {
		switch {
		case last.IsValid() && last.Contains(p.Addr()):
			continue
		case p.Addr().Is4():
			v4.add(p)
		default:
			v6.add(p)
		}
		last = p
	}
	if v6.n > maxSources {
		return v4, v6, fmt.Errorf("tuple: Pool.Sources has %d IPv6 prefixes: of those with 2^32 addresses or more, which count as 2^32, it can use %d", len(v6.blocks), maxSources/perPrefix)
	}
	return v4, v6, nil
}

func (s *sources) add(p netip.Prefix) {
	count := uint64(perPrefix)
	if host := p.Addr().BitLen() - p.Bits(); host < bits.Len64(perPrefix)-1 {
		count = 1 << host
	}
	s.blocks = append(s.blocks, sourceBlock{addrFrom(p.Addr()), s.n, s.n + count})
	s.n += count
}

// at returns the address of a number, which must be below n.
func (s *sources) at(number uint64) addr {
	b := &s.blocks[0]
	if number >= b.end {
		b = &s.blocks[sort.Search(len(s.blocks), func(i int) bool { return s.blocks[i].end > number })]
	}
	return addr{b.first.hi, b.first.lo + number - b.begin}
}

// tuple returns the tuple of a hold towards a destination.
func (s *sources) tuple(h hold, dst dstKey) Tuple {
	return Tuple{s.at(h.number()), dst.addr(), h.port(), dst.port()}
}

// number is the inverse of at. It fails if the address is not a source, or is past the bound of its prefix.
func (s *sources) number(a addr) (number uint64, ok bool) {
	if len(s.blocks) == 0 {
		return 0, false
	}
	b := &s.blocks[0]
	if len(s.blocks) > 1 {
		after := sort.Search(len(s.blocks), func(i int) bool {
			first := s.blocks[i].first
			return first.hi > a.hi || first.hi == a.hi && first.lo > a.lo
		})
		b = &s.blocks[max(after, 1)-1]
	}
	number = a.lo - b.first.lo
	return b.begin + number, a.hi == b.first.hi && number < b.end-b.begin
}
