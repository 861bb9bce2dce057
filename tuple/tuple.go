package tuple

import (
	"cmp"
	"net/netip"

	"github.com/ephemera-go/ephemera/internal/held"
)

// Tuple is a 4-tuple, which names a connection: source address and port, destination address and port. It is
// comparable, holds no pointers and takes 40 bytes.
//
// The zero Tuple is not valid. An IPv4-mapped IPv6 address is stored as the IPv4 address. Zones are dropped because
// packets do not carry them: if a host has the same link-local address on two links, a port is unique over both. The
// source address 0.0.0.0 or :: means that the operating system picks the address.
type Tuple struct {
	src, dst         held.Addr
	srcPort, dstPort uint16
}

// From returns the Tuple from src to dst. It unmaps IPv4-mapped IPv6 addresses and drops zones.
func From(src, dst netip.AddrPort) Tuple {
	return Tuple{held.AddrFrom(src.Addr()), held.AddrFrom(dst.Addr()), src.Port(), dst.Port()}
}

// Src returns the source address and port.
func (t Tuple) Src() netip.AddrPort { return netip.AddrPortFrom(t.src.Netip(), t.srcPort) }

// Dst returns the destination address and port.
func (t Tuple) Dst() netip.AddrPort { return netip.AddrPortFrom(t.dst.Netip(), t.dstPort) }

func (t *Tuple) dstKey() held.Key {
	return held.KeyOf(t.dst, t.dstPort)
}

// Key returns t without its source port.
func (t Tuple) Key() Key { return Key{t.src, t.dst, t.dstPort} }

// Reverse returns t as the other end sees it, with source and destination exchanged.
func (t Tuple) Reverse() Tuple { return Tuple{t.dst, t.src, t.dstPort, t.srcPort} }

// IsValid reports whether t can name a connection. Both addresses must be of one family, the destination must not be
// the unspecified address, and neither port may be 0.
func (t Tuple) IsValid() bool {
	return t.src.Is4() == t.dst.Is4() && t.dstKey().IsValid() && t.srcPort != 0
}

// Compare returns -1 if t sorts before u, 0 if they are equal, and +1 if t sorts after u. It compares source addresses,
// then source ports, then destinations.
func (t Tuple) Compare(u Tuple) int {
	return cmp.Or(t.Src().Compare(u.Src()), t.Dst().Compare(u.Dst()))
}

// Key is a Tuple without its source port. It names a port space: the ports of one source towards one destination. It is
// comparable, holds no pointers and takes 40 bytes. The zero Key is not valid.
type Key struct {
	src, dst held.Addr
	dstPort  uint16
}

// KeyFrom returns the Key of a source address and a destination. It unmaps IPv4-mapped IPv6 addresses and drops zones.
func KeyFrom(src netip.Addr, dst netip.AddrPort) Key {
	return Key{held.AddrFrom(src), held.AddrFrom(dst.Addr()), dst.Port()}
}

// Tuple returns the Tuple of k with the given source port.
func (k Key) Tuple(srcPort uint16) Tuple { return Tuple{k.src, k.dst, srcPort, k.dstPort} }

// Src returns the source address.
func (k Key) Src() netip.Addr { return k.src.Netip() }

// Dst returns the destination address and port.
func (k Key) Dst() netip.AddrPort { return netip.AddrPortFrom(k.dst.Netip(), k.dstPort) }

// IsValid reports whether k can name a port space. Both addresses must be of one family, the destination must not be
// the unspecified address, and its port must not be 0.
func (k Key) IsValid() bool {
	return k.src.Is4() == k.dst.Is4() && held.KeyOf(k.dst, k.dstPort).IsValid()
}
