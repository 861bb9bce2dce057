package held

import (
	"encoding/binary"
	"math/bits"
)

// Seed keys a hash, so that nobody who does not know it can choose destinations or owners that collide.
//
// The hash is the one that Go's maps use where the processor has no AES (memhashFallback in runtime/hash64.go, after
// wyhash). It takes 3 ns for a Key, where maphash.Comparable takes 7, and is the same in every process.
type Seed [3]uint64

// NewSeed draws a Seed.
func NewSeed(rand func() uint64) Seed { return Seed{rand(), rand(), rand()} }

// odd is a constant with as many ones as zeros, from the golden ratio.
const odd = 0x9e3779b97f4a7c15

// HashString returns the hash of a text.
func (s *Seed) HashString(text string) uint64 {
	h := s[2] ^ uint64(len(text))
	for len(text) > 0 {
		var b [8]byte
		n := copy(b[:], text)
		w := binary.LittleEndian.Uint64(b[:])
		h = fold(h^s[0], w^s[1])
		text = text[n:]
	}
	return fold(h^s[2], odd)
}

// fold multiplies to 128 bits and folds them.
func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// mix is the finalizer of SplitMix64: every bit of x changes about half of those of the result.
func mix(x uint64) uint64 {
	x += odd
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// below returns a number below n, all but equally likely: the bias is n/2^64.
func below(n, r uint64) uint64 {
	hi, _ := bits.Mul64(r, n)
	return hi
}
