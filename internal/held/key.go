package held

import "net/netip"

// Key names a destination in words that compare and hash fast. An IPv4 destination takes only the last word:
// address<<32 | port<<16. An IPv6 one has the address in the first two and port<<16 in the last. The zero Key is no
// destination.
type Key struct{ hi, lo, last uint64 }

// KeyOf returns the Key of an address and port.
func KeyOf(a Addr, port uint16) Key {
	if a.Is4() {
		return Key{last: a.lo<<32 | uint64(port)<<16}
	}
	return Key{a.hi, a.lo, uint64(port) << 16}
}

// Is6 reports whether the destination is an IPv6 one.
func (k Key) Is6() bool { return k.hi|k.lo != 0 }

// IsValid reports whether k can name a destination: neither the address nor the port is 0.
func (k Key) IsValid() bool { return k.Port() != 0 && (k.last>>32 != 0 || k.Is6()) }

// Port returns the destination port.
func (k Key) Port() uint16 { return uint16(k.last >> 16) }

// Addr returns the destination address.
func (k Key) Addr() Addr {
	if k.Is6() {
		return Addr{k.hi, k.lo}
	}
	return Addr{0, mapped4 | k.last>>32}
}

// Netip returns the destination.
func (k Key) Netip() netip.AddrPort { return netip.AddrPortFrom(k.Addr().Netip(), k.Port()) }

// Hash returns a hash of k that nobody can predict who does not know the seed.
func (k Key) Hash(s *Seed) uint64 {
	h := fold(k.last^s[0], k.last^s[1])
	if k.Is6() {
		h ^= fold(k.hi^s[1], k.lo^s[2])
	}
	return fold(h^s[2], odd)
}

// Hold names one tuple towards a destination: the number of its source and the port, as number<<16 | port.
type Hold uint64

// HoldOf returns the Hold of a source and a port.
func HoldOf(number uint64, port uint16) Hold { return Hold(number<<16 | uint64(port)) }

// Number returns the number of the source.
func (h Hold) Number() uint64 { return uint64(h >> 16) }

// Port returns the source port.
func (h Hold) Port() uint16 { return uint16(h) }

// MaxSources is how many source addresses a Hold can tell apart.
const MaxSources = 1 << 48
