package tuple

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"net/netip"
	"slices"
	"sort"
)

// perPrefix bounds how many addresses of one prefix are handed out, so that 65,535 of the widest add up in 64 bits.
const perPrefix = 1 << 48

// sources is the source addresses of one family, numbered from 0 without being enumerated.
type sources struct {
	prefixes []netip.Prefix // disjoint, ascending
	ends     []uint64       // ends[i] is the number of addresses in prefixes[:i+1]
}

// What no source may be, beside the unspecified addresses. An IPv4-mapped prefix is looked at as the IPv4 one that it is.
var (
	multicast4 = netip.MustParsePrefix("224.0.0.0/4")
	multicast6 = netip.MustParsePrefix("ff00::/8")
	mapped     = netip.MustParsePrefix("::ffff:0:0/96")
)

// anySource is the sources of a Pool that has none: the one address that stands for all.
func anySource(unspecified netip.Addr) sources {
	return sources{[]netip.Prefix{netip.PrefixFrom(unspecified, unspecified.BitLen())}, []uint64{1}}
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
	for _, p := range clean {
		if p.Addr().Is4() {
			v4.add(p)
		} else {
			v6.add(p)
		}
	}
	return v4, v6, nil
}

func (s *sources) add(p netip.Prefix) {
	n := len(s.prefixes)
	before := uint64(0)
	if n > 0 {
		if s.prefixes[n-1].Contains(p.Addr()) {
			return
		}
		before = s.ends[n-1]
	}
	count := uint64(perPrefix)
	if host := p.Addr().BitLen() - p.Bits(); host < bits.Len64(perPrefix)-1 {
		count = 1 << host
	}
	count = min(count, math.MaxUint64-before)
	s.prefixes = append(s.prefixes, p)
	s.ends = append(s.ends, before+count)
}

// len returns how many source addresses there are.
func (s *sources) len() uint64 {
	if len(s.ends) == 0 {
		return 0
	}
	return s.ends[len(s.ends)-1]
}

// at returns the i-th source address.
func (s *sources) at(i uint64) addr {
	at := 0
	if len(s.ends) > 1 {
		at = sort.Search(len(s.ends), func(j int) bool { return s.ends[j] > i })
		if at > 0 {
			i -= s.ends[at-1]
		}
	}
	a := addr(s.prefixes[at].Addr().As16())
	low := a[8:]
	binary.BigEndian.PutUint64(low, binary.BigEndian.Uint64(low)+i)
	return a
}

// index is the inverse of at; ok is false if a is not a source address or is past the bound of its prefix.
func (s *sources) index(a addr) (i uint64, ok bool) {
	ip := a.netip()
	at := sort.Search(len(s.prefixes), func(j int) bool { return s.prefixes[j].Addr().Compare(ip) > 0 }) - 1
	if at < 0 || !s.prefixes[at].Contains(ip) {
		return 0, false
	}
	base := addr(s.prefixes[at].Addr().As16())
	i = binary.BigEndian.Uint64(a[8:]) - binary.BigEndian.Uint64(base[8:])
	before := uint64(0)
	if at > 0 {
		before = s.ends[at-1]
	}
	if [8]byte(a[:8]) != [8]byte(base[:8]) || i >= s.ends[at]-before {
		return 0, false
	}
	return before + i, true
}
