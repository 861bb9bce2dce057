package tuple

import (
	"math/bits"
	"math/rand/v2"
	"net/netip"
)

// dstKey names a destination in words that compare and hash fast. An IPv4 one takes only the last: address<<32 |
// port<<16. An IPv6 one has the address in the first two and port<<16 in the last.
type dstKey struct{ hi, lo, last uint64 }

func dstKeyOf(a addr, port uint16) dstKey {
	if a.is4() {
		return dstKey{last: a.lo<<32 | uint64(port)<<16}
	}
	return dstKey{a.hi, a.lo, uint64(port) << 16}
}

func (k dstKey) is6() bool { return k.hi|k.lo != 0 }

// isValid reports whether k can name a destination: neither the address nor the port is 0.
func (k dstKey) isValid() bool { return k.port() != 0 && (k.last>>32 != 0 || k.is6()) }

func (k dstKey) port() uint16 { return uint16(k.last >> 16) }

func (k dstKey) addr() addr {
	if k.is6() {
		return addr{k.hi, k.lo}
	}
	return addr{0, mapped4 | k.last>>32}
}

func (k dstKey) netip() netip.AddrPort { return netip.AddrPortFrom(k.addr().netip(), k.port()) }

// seed is what nobody who chooses destinations knows.
type seed [3]uint64

func newSeed() seed { return seed{rand.Uint64(), rand.Uint64(), rand.Uint64()} }

// hash is keyed, so that nobody can choose destinations that meet. It is the one of Go's maps where there is no AES
// (memhash64Fallback in runtime/hash64.go, after wyhash): 3 ns, where maphash.Comparable takes 7.
func (k dstKey) hash(s *seed) uint64 {
	h := fold(k.last^s[0], k.last^s[1])
	if k.is6() {
		h ^= fold(k.hi^s[1], k.lo^s[2])
	}
	return fold(h^s[2], 0x9e3779b97f4a7c15)
}

// fold multiplies to 128 bits and folds them.
func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// hold is a source's number and a port of it in one word: number<<16 | port. Towards a destination it names a tuple.
type hold uint64

func holdOf(number uint64, port uint16) hold { return hold(number<<16 | uint64(port)) }

func (h hold) number() uint64 { return uint64(h >> 16) }
func (h hold) port() uint16   { return uint16(h) }

// maxSources is how many source addresses a hold can tell apart.
const maxSources = 1 << 48
