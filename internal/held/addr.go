package held

import (
	"encoding/binary"
	"net/netip"
)

// Addr is an IP address as a number of 128 bits. IPv4 is IPv4-mapped IPv6. The zero Addr is no address. It is
// comparable and has no pointers. Words rather than bytes let tuples be made and copied without a wait for single bytes
// to be written.
type Addr struct{ hi, lo uint64 }

// mapped4 is the lower half of ::ffff:0.0.0.0.
const mapped4 = 0xffff << 32

// AddrFrom returns a as an Addr. It drops the zone.
func AddrFrom(a netip.Addr) Addr {
	switch {
	case a.Is4():
		b := a.As4()
		return Addr{0, mapped4 | uint64(binary.BigEndian.Uint32(b[:]))}
	case a.IsValid():
		b := a.As16()
		return Addr{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
	}
	return Addr{}
}

// Is4 reports whether a is an IPv4 address.
func (a Addr) Is4() bool { return a.hi == 0 && a.lo>>32 == mapped4>>32 }

// Netip returns a as a netip.Addr, IPv4 unmapped. That of the zero Addr is ::.
func (a Addr) Netip() netip.Addr {
	if a.Is4() {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(a.lo))
		return netip.AddrFrom4(b)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], a.hi)
	binary.BigEndian.PutUint64(b[8:], a.lo)
	return netip.AddrFrom16(b)
}
