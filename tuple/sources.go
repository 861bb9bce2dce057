package tuple

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/internal/held"
	"github.com/ephemera-go/ephemera/internal/ports"
)

// Source is addresses to send from, and the ports of each.
type Source struct {
	Prefix netip.Prefix // all of its addresses, as in Pool.Sources
	Ports  alloc.Set    // the zero Set means those of the Pool
}

// What no source may be, beside the unspecified addresses. An IPv4-mapped prefix counts as the IPv4 one that it is.
var (
	multicast4 = netip.MustParsePrefix("224.0.0.0/4")
	multicast6 = netip.MustParsePrefix("ff00::/8")
	mapped     = netip.MustParsePrefix("::ffff:0:0/96")
)

// sourcesFrom sorts a list by family. A prefix that lies within another is not counted twice. The errors call the
// list what.
func (pl *plan) sourcesFrom(what string, list []Source) (v4, v6 *held.Sources, err error) {
	clean := make([]Source, len(list))
	for i, s := range list {
		s.Prefix = unmapped(s.Prefix).Masked()
		if why := s.fault(); why != "" {
			return nil, nil, fmt.Errorf("tuple: %s[%d], %v, %s", what, i, s.Prefix, why)
		}
		clean[i] = s
	}
	slices.SortStableFunc(clean, func(a, b Source) int { return a.Prefix.Compare(b.Prefix) })
	table := func(s Source) *ports.Allowed {
		if s.Ports.IsZero() {
			return tableOf(pl.ports)
		}
		return tableOf(s.Ports)
	}
	v4, v6 = new(held.Sources), new(held.Sources)
	var last Source
	for _, s := range clean {
		if last.Prefix.IsValid() && last.Prefix.Contains(s.Prefix.Addr()) {
			if !table(s).Equal(table(last)) {
				return nil, nil, fmt.Errorf("tuple: %s: %v lies within %v, and has other ports", what, s.Prefix, last.Prefix)
			}
			continue
		}
		last = s
		family := v4
		if s.Prefix.Addr().Is6() {
			family = v6
		}
		family.Add(s.Prefix, table(s), !s.Ports.IsZero())
	}
	return v4, v6, checkFit(what, v6)
}

// fault says what keeps s from being a source; "" if nothing does. Its prefix is unmapped and masked.
func (s Source) fault() string {
	p := s.Prefix
	switch {
	case !p.IsValid():
		return "is not a valid prefix: a single address is written as 192.0.2.1/32"
	case p.Addr().IsUnspecified():
		return "is no address to send from: leave Sources empty to let the operating system pick one"
	case p.Addr().IsMulticast():
		return "is multicast: nothing is sent from there"
	case p.Overlaps(multicast4) || p.Overlaps(multicast6) || p.Overlaps(mapped):
		return "is too wide: it holds multicast or IPv4-mapped addresses"
	case !s.Ports.IsZero() && s.Ports.Len() == 0:
		return "has a set without a port: leave Ports zero for those of the Pool"
	}
	return ""
}

// unmapped returns the IPv4 prefix that an IPv4-mapped one stands for, and any other as it is.
func unmapped(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}

// checkFit returns an error if there are more addresses than can be told apart.
func checkFit(what string, v6 *held.Sources) error {
	if v6.Fit() {
		return nil
	}
	return fmt.Errorf("tuple: %s has %d IPv6 prefixes: of those with 2^32 addresses or more, which count as 2^32, "+
		"it can use %d", what, v6.Prefixes(), held.MaxSources/held.PerPrefix)
}
