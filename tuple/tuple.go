package tuple

import (
	"cmp"
	"encoding/binary"
	"net/netip"
)

// addr is an address as a number of 128 bits, IPv4 as IPv4-mapped IPv6: comparable without pointers. An invalid
// address is ::. As words rather than bytes, tuples are made and copied without waiting for the bytes to be written.
type addr struct{ hi, lo uint64 }

// mapped4 is the lower half of ::ffff:0.0.0.0.
const mapped4 = 0xffff << 32

func addrFrom(a netip.Addr) addr {
	switch {
	case a.Is4():
		b := a.As4()
		return addr{0, mapped4 | uint64(binary.BigEndian.Uint32(b[:]))}
	case a.IsValid():
		b := a.As16()
		return addr{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
	}
	return addr{}
}

func (a addr) is4() bool { return a.hi == 0 && a.lo>>32 == mapped4>>32 }

func (a addr) netip() netip.Addr {
	if a.is4() {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(a.lo))
		return netip.AddrFrom4(b)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], a.hi)
	binary.BigEndian.PutUint64(b[8:], a.lo)
	return netip.AddrFrom16(b)
}

// Tuple is a 4-tuple: it names a connection. It is comparable, holds no pointers and takes 40 bytes.
//
// The zero Tuple is not valid. An IPv4-mapped IPv6 address is the IPv4 address. Zones are dropped, for what a zone
// tells apart is on the host and not in the packet: if a host has the same link-local address on two links, a port is
// unique over both. A source address of 0.0.0.0 or :: stands for one that the operating system is yet to pick.
type Tuple struct {
	src, dst         addr
	srcPort, dstPort uint16
}

// From returns the Tuple from src to dst. It unmaps IPv4-mapped IPv6 addresses and drops zones.
func From(src, dst netip.AddrPort) Tuple {
	return Tuple{addrFrom(src.Addr()), addrFrom(dst.Addr()), src.Port(), dst.Port()}
}

// Src returns the source address and port.
func (t Tuple) Src() netip.AddrPort { return netip.AddrPortFrom(t.src.netip(), t.srcPort) }

// Dst returns the destination address and port.
func (t Tuple) Dst() netip.AddrPort { return netip.AddrPortFrom(t.dst.netip(), t.dstPort) }

func (t *Tuple) dstKey() dstKey {
	return dstKeyOf(t.dst, t.dstPort)
}

// Key returns t less its source port.
func (t Tuple) Key() Key { return Key{t.src, t.dst, t.dstPort} }

// Reverse returns the Tuple as the other end sees it.
func (t Tuple) Reverse() Tuple { return Tuple{t.dst, t.src, t.dstPort, t.srcPort} }

// IsValid reports whether t can name a connection: both addresses are of one family, the destination is not the
// unspecified address, and neither port is 0.
func (t Tuple) IsValid() bool {
	return t.src.is4() == t.dst.is4() && t.dstKey().isValid() && t.srcPort != 0
}

// Compare returns -1, 0 or +1 as t sorts before, with or after u: by source address and port, then by destination.
func (t Tuple) Compare(u Tuple) int {
	return cmp.Or(t.Src().Compare(u.Src()), t.Dst().Compare(u.Dst()))
}

// Key is a Tuple less its source port: it names the space in which that port must be unique. It is comparable, holds no
// pointers and takes 40 bytes. The zero Key names no space.
type Key struct {
	src, dst addr
	dstPort  uint16
}

// KeyFrom returns the Key from the address src to dst. It unmaps IPv4-mapped IPv6 addresses and drops zones.
func KeyFrom(src netip.Addr, dst netip.AddrPort) Key {
	return Key{addrFrom(src), addrFrom(dst.Addr()), dst.Port()}
}

// Tuple returns the Tuple of k with the given source port.
func (k Key) Tuple(srcPort uint16) Tuple { return Tuple{k.src, k.dst, srcPort, k.dstPort} }

// Src returns the source address.
func (k Key) Src() netip.Addr { return k.src.netip() }

// Dst returns the destination address and port.
func (k Key) Dst() netip.AddrPort { return netip.AddrPortFrom(k.dst.netip(), k.dstPort) }
