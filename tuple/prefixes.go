package tuple

import (
	"fmt"
	"net/netip"
	"strings"
)

// Prefixes is a list of prefixes that has a text form, for configurations: "192.0.2.1,198.51.100.0/24,2001:db8::/64".
// It can be assigned to Pool.Sources.
type Prefixes []netip.Prefix

// String returns the list as UnmarshalText reads it. Single addresses have a length too: "192.0.2.1/32".
func (p Prefixes) String() string {
	items := make([]string, len(p))
	for i, prefix := range p {
		items[i] = prefix.String()
	}
	return strings.Join(items, ",")
}

// MarshalText implements [encoding.TextMarshaler]: it returns what String returns.
func (p Prefixes) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]. The text is a list of prefixes and single addresses, separated
// by commas. Spaces around them are ignored. The empty text is the nil list.
func (p *Prefixes) UnmarshalText(text []byte) error {
	if strings.TrimSpace(string(text)) == "" {
		*p = nil
		return nil
	}
	var list Prefixes
	for item := range strings.SplitSeq(string(text), ",") {
		prefix, err := parsePrefix(strings.TrimSpace(item))
		if err != nil {
			return err
		}
		list = append(list, prefix)
	}
	*p = list
	return nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		return prefix, fmt.Errorf("tuple: want an address or a prefix, such as 192.0.2.1 or 192.0.2.0/24: %q", s)
	}
	return prefix, nil
}
