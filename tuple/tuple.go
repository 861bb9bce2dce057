package tuple

import (
	"cmp"
	"net/netip"

	"github.com/ephemera-go/ephemera/internal/held"
)

// Tuple is a 4-tuple: it names a connection. It is comparable, holds no pointers and takes 40 bytes.
//
// The zero Tuple is not valid. An IPv4-mapped IPv6 address is the IPv4 address. Zones are dropped, for what a zone
// tells apart is on the host and not in the packet: if a host has the same link-local address on two links, a port is
// unique over both. A source address of 0.0.0.0 or :: stands for one that the operating system is yet to pick.
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

// Key returns t less its source port.
func (t Tuple) Key() Key { return Key{t.src, t.dst, t.dstPort} }

// Reverse returns the Tuple as the other end sees it.
func (t Tuple) Reverse() Tuple { return Tuple{t.dst, t.src, t.dstPort, t.srcPort} }

// IsValid reports whether t can name a connection: both addresses are of one family, the destination is not the
// unspecified address, and neither port is 0.
func (t Tuple) IsValid() bool {
	return t.src.Is4() == t.dst.Is4() && t.dstKey().IsValid() && t.srcPort != 0
}

// Compare returns -1, 0 or +1 as t sorts before, with or after u: by source address and port, then by destination.
func (t Tuple) Compare(u Tuple) int {
	return cmp.Or(t.Src().Compare(u.Src()), t.Dst().Compare(u.Dst()))
}

// Key is a Tuple less its source port: it names the space in which that port must be unique. It is comparable, holds no
// pointers and takes 40 bytes. The zero Key names no space.
type Key struct {
	src, dst held.Addr
	dstPort  uint16
}

// KeyFrom returns the Key from the address src to dst. It unmaps IPv4-mapped IPv6 addresses and drops zones.
func KeyFrom(src netip.Addr, dst netip.AddrPort) Key {
	return Key{held.AddrFrom(src), held.AddrFrom(dst.Addr()), dst.Port()}
}

// Tuple returns the Tuple of k with the given source port.
func (k Key) Tuple(srcPort uint16) Tuple { return Tuple{k.src, k.dst, srcPort, k.dstPort} }

// Src returns the source address.
func (k Key) Src() netip.Addr { return k.src.Netip() }

// Dst returns the destination address and port.
func (k Key) Dst() netip.AddrPort { return netip.AddrPortFrom(k.dst.Netip(), k.dstPort) }

// IsValid reports whether k can name a port space: both addresses are of one family, the destination is not the
// unspecified address, and its port is not 0.
func (k Key) IsValid() bool {
	return k.src.Is4() == k.dst.Is4() && held.KeyOf(k.dst, k.dstPort).IsValid()
}
