package tuple

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/internal/held"
	"github.com/ephemera-go/ephemera/internal/ports"
)

// Source is a prefix to send from, with the ports of each of its addresses.
type Source struct {
	Prefix netip.Prefix // all of its addresses, as in Pool.Sources
	Ports  alloc.Set    // the zero Set means the ports of the Pool
}

// Addresses that cannot be sources. An IPv4-mapped prefix of 96 bits or more counts as IPv4.
var (
	multicast4 = netip.MustParsePrefix("224.0.0.0/4")
	multicast6 = netip.MustParsePrefix("ff00::/8")
	mapped     = netip.MustParsePrefix("::ffff:0:0/96")
)

// sourcesFrom sorts a list by family. A prefix within another one is not counted twice. what names the list in errors.
func (pl *plan) sourcesFrom(what string, list []Source) (v4, v6 *held.Sources, err error) {
	clean := make([]Source, len(list))
	for i, s := range list {
		s.Prefix = unmapped(s.Prefix).Masked()
		if why := s.fault(); why != "" {
			return nil, nil, fmt.Errorf("tuple: %s[%d] %s: %v", what, i, why, s.Prefix)
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
				return nil, nil, fmt.Errorf("tuple: %s: a prefix within another one must have the same ports: %v in %v",
					what, s.Prefix, last.Prefix)
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

// fault returns why s cannot be a source, "" if it can. Its prefix must be unmapped and masked.
func (s Source) fault() string {
	p := s.Prefix
	switch {
	case !p.IsValid():
		return "is not a valid prefix: write a single address as 192.0.2.1/32"
	case p.Addr().IsUnspecified():
		return "is not an address to send from: leave Sources empty to let the operating system pick one"
	case p.Addr().IsMulticast():
		return "is multicast: want unicast addresses"
	case p.Overlaps(multicast4) || p.Overlaps(multicast6) || p.Overlaps(mapped):
		return "is too wide: it contains multicast or IPv4-mapped addresses"
	case !s.Ports.IsZero() && s.Ports.Len() == 0:
		return "has a set without a port: leave Ports zero to use those of the Pool"
	}
	return ""
}

// unmapped returns the IPv4 prefix of an IPv4-mapped one. It returns other prefixes unchanged.
func unmapped(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}

// checkFit returns an error if the sources have more addresses than a Hold can number.
func checkFit(what string, v6 *held.Sources) error {
	if v6.Fit() {
		return nil
	}
	return fmt.Errorf("tuple: %s: too many IPv6 addresses: want at most %d prefixes with 2^32 addresses or more: "+
		"%d IPv6 prefixes", what, held.MaxSources/held.PerPrefix, v6.Prefixes())
}
