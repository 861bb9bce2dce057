package ports

import (
	"math/bits"
	"slices"
)

// A Space holds up to listMax ports as a sorted list, more as bits. It goes back to a list at half of that, so that a
// Space that hovers around listMax does not copy itself to and fro.
const listMax = 64

// Space is the ports in use out of an Allowed, which each call names: it must always be the same. The zero Space is
// empty. It must not be copied once used, and is not safe for concurrent use.
type Space struct {
	list  []uint16 // in use, ascending; while dense is nil
	dense *dense
}

// Len returns how many ports are in use.
func (s *Space) Len(a *Allowed) int {
	if s.dense != nil {
		return a.n - s.dense.n
	}
	return len(s.list)
}

// Contains reports whether port is in use.
func (s *Space) Contains(a *Allowed, port uint16) bool {
	if s.dense != nil {
		return a.Contains(port) && !s.dense.free(bit(a, port))
	}
	_, found := slices.BinarySearch(s.list, port)
	return found
}

// Acquire puts a free port to use, each with the same probability. It fails only when none is free. Its random numbers
// come from rand.
func (s *Space) Acquire(a *Allowed, rand func() uint64) (port uint16, ok bool) {
	if s.Len(a) == a.n {
		return 0, false
	}
	if s.dense != nil {
		i := s.dense.choose(a.probe, rand)
		s.dense.take(i)
		return uint16(a.base + int(i)), true
	}
	// The r-th free port is the r-th allowed one, moved up by the ports in use that come before it.
	rank := int(uniform(rand, uint64(a.n-len(s.list))))
	at := 0
	for port = a.port(rank); at < len(s.list) && s.list[at] <= port; at++ {
		rank++
		port = a.port(rank)
	}
	s.insert(a, at, port)
	return port, true
}

// AcquireIn is Acquire among the ports that are in the set in as well.
func (s *Space) AcquireIn(a, in *Allowed, rand func() uint64) (port uint16, ok bool) {
	if in.n == 0 || s.Len(a) == a.n {
		return 0, false
	}
	for range 2 {
		port = in.port(int(uniform(rand, uint64(in.n))))
		if s.Reserve(a, port) {
			return port, true
		}
	}
	var scratch [1 << 16 / 64]uint64
	free, wanted, base := overlap(s.freeWords(a, &scratch), a.base, in.words, in.base)
	n := 0
	for i, w := range free {
		n += bits.OnesCount64(w & wanted[i])
	}
	if n == 0 {
		return 0, false
	}
	r := int(uniform(rand, uint64(n)))
	for i, w := range free {
		w &= wanted[i]
		if n := bits.OnesCount64(w); r >= n {
			r -= n
			continue
		}
		port = uint16(base + i*64 + nthBit(w, r))
		break
	}
	return port, s.Reserve(a, port)
}

// Reserve puts port to use. It fails if port is not allowed or in use.
func (s *Space) Reserve(a *Allowed, port uint16) bool {
	if !a.Contains(port) {
		return false
	}
	if s.dense != nil {
		i := bit(a, port)
		if !s.dense.free(i) {
			return false
		}
		s.dense.take(i)
		return true
	}
	at, found := slices.BinarySearch(s.list, port)
	if found {
		return false
	}
	s.insert(a, at, port)
	return true
}

// Release ends the use of port. It fails if port was not in use.
func (s *Space) Release(a *Allowed, port uint16) bool {
	if s.dense != nil {
		if !a.Contains(port) || s.dense.free(bit(a, port)) {
			return false
		}
		s.dense.give(bit(a, port))
		if a.n-s.dense.n <= listMax/2 {
			s.toList(a)
		}
		return true
	}
	at, found := slices.BinarySearch(s.list, port)
	if found {
		s.list = slices.Delete(s.list, at, at+1)
	}
	return found
}

func (s *Space) insert(a *Allowed, at int, port uint16) {
	if len(s.list) < listMax {
		s.list = slices.Insert(s.list, at, port)
		return
	}
	s.dense = newDense(a)
	for _, p := range s.list {
		s.dense.take(bit(a, p))
	}
	s.dense.take(bit(a, port))
	s.list = nil
}

func (s *Space) toList(a *Allowed) {
	s.list = make([]uint16, 0, listMax)
	for i, w := range s.dense.words {
		for used := a.words[i] &^ w; used != 0; used &= used - 1 {
			s.list = append(s.list, uint16(a.base+i*64+bits.TrailingZeros64(used)))
		}
	}
	s.dense = nil
}

// freeWords returns the free ports as bits, in scratch where s has no such words itself.
func (s *Space) freeWords(a *Allowed, scratch *[1 << 16 / 64]uint64) []uint64 {
	if s.dense != nil {
		return s.dense.words
	}
	words := scratch[:copy(scratch[:], a.words)]
	for _, port := range s.list {
		i := bit(a, port)
		words[i/64] &^= 1 << (i % 64)
	}
	return words
}

// overlap returns the parts of a and b, whose first bits stand for the ports aBase and bBase, that stand for the same
// ports, and the port that their first bit stands for.
func overlap(a []uint64, aBase int, b []uint64, bBase int) (x, y []uint64, base int) {
	base = max(aBase, bBase)
	end := min(aBase+64*len(a), bBase+64*len(b))
	if end <= base {
		return nil, nil, 0
	}
	return a[(base-aBase)/64 : (end-aBase)/64 : (end-aBase)/64], b[(base-bBase)/64 : (end-bBase)/64], base
}

func bit(a *Allowed, port uint16) uint { return uint(int(port) - a.base) }
