package ports

import (
	"iter"
	"math/bits"
	"sync/atomic"
)

// Space is the ports in use out of an Allowed. The zero Space is empty, and has no port to give before Use says which
// are allowed. It must not be copied after its first use.
//
// It is not safe for concurrent use, with one exception: if Share has been called before the first use, Contains may be
// called at any time, while another goroutine changes the Space.
type Space struct {
	allowed atomic.Pointer[Allowed]

	few   few
	dense atomic.Pointer[dense] // takes over from few when that is full
	moves atomic.Uint32         // how often it did
}

// fewAgain is at how many ports a Space goes back from bits: one that hovers around fewPorts does not move to and fro.
const fewAgain = fewPorts / 2

// Share makes Contains safe to be called without the lock that guards s. It costs 5 ns for each change.
func (s *Space) Share() { s.few.shared = true }

// Use says which ports are allowed from now on. No port may be in use.
func (s *Space) Use(a *Allowed) {
	if s.allowed.Load() != a { // seldom: storing it atomically takes longer
		s.allowed.Store(a)
	}
}

// Allowed returns what Use said last.
func (s *Space) Allowed() *Allowed { return s.allowed.Load() }

// IsFull reports whether all allowed ports are in use.
func (s *Space) IsFull() bool { return s.Len() == s.allowed.Load().n }

// Len returns how many ports are in use.
func (s *Space) Len() int {
	if d := s.dense.Load(); d != nil {
		return s.allowed.Load().n - d.n
	}
	return s.few.n
}

// Contains reports whether port is in use.
func (s *Space) Contains(port uint16) bool {
	for {
		moves := s.moves.Load()
		in := false
		if d := s.dense.Load(); d != nil {
			a := s.allowed.Load()
			in = a.Contains(port) && !d.freeShared(bit(a, port))
		} else {
			in = s.few.has(port)
		}
		// A port may have been in few when the bits were looked at and the other way round. The bits are made anew each
		// time, so those that were looked at stay as they were when they went out of use: only few must not have changed.
		if s.moves.Load() == moves {
			return in
		}
	}
}

// Acquire puts a free port to use, each with the same probability. It fails only when none is free. It needs a random
// number r, and takes more from rand if that does not do.
func (s *Space) Acquire(r uint64, rand func() uint64) (port uint16, ok bool) {
	a := s.allowed.Load()
	if d := s.dense.Load(); d != nil {
		if d.n == 0 {
			return 0, false
		}
		i := d.choose(a.probe, r, rand)
		d.take(i)
		return uint16(a.base + int(i)), true
	}
	if s.few.n == a.n {
		return 0, false
	}
	// Any allowed port until one is free, which is uniform over the free ones: seldom more than one if many are allowed,
	// and 64 on average for the last of 64.
	for {
		port = a.port(int(below(uint64(a.n), r, rand)))
		if s.few.find(port, s.few.top) < 0 {
			s.add(a, port)
			return port, true
		}
		r = rand()
	}
}

// AcquireIn is Acquire among the ports that are in the set in as well.
func (s *Space) AcquireIn(in *Allowed, rand func() uint64) (port uint16, ok bool) {
	a := s.allowed.Load()
	if a == nil || in.n == 0 || s.Len() == a.n {
		return 0, false
	}
	for range 2 {
		port = in.port(int(below(uint64(in.n), rand(), rand)))
		if s.Reserve(port) {
			return port, true
		}
	}
	var scratch [1 << 16 / 64]uint64
	free, wanted, base := overlap(s.freeWords(&scratch), a.base, in.words, in.base)
	n := 0
	for i, w := range free {
		n += bits.OnesCount64(w & wanted[i])
	}
	if n == 0 {
		return 0, false
	}
	r := int(below(uint64(n), rand(), rand))
	for i, w := range free {
		w &= wanted[i]
		if n := bits.OnesCount64(w); r >= n {
			r -= n
			continue
		}
		port = uint16(base + i*64 + int(nthBit(w, uint64(r))))
		break
	}
	return port, s.Reserve(port)
}

// HasFreeIn reports whether a free port is in the set in.
func (s *Space) HasFreeIn(in *Allowed) bool {
	a := s.allowed.Load()
	var scratch [1 << 16 / 64]uint64
	free, wanted, _ := overlap(s.freeWords(&scratch), a.base, in.words, in.base)
	for i, w := range free {
		if w&wanted[i] != 0 {
			return true
		}
	}
	return false
}

// Reserve puts port to use. It fails if port is not allowed or in use.
func (s *Space) Reserve(port uint16) bool {
	a := s.allowed.Load()
	if a == nil || !a.Contains(port) {
		return false
	}
	if d := s.dense.Load(); d != nil {
		if !d.free(bit(a, port)) {
			return false
		}
		d.take(bit(a, port))
		return true
	}
	if s.few.find(port, s.few.top) >= 0 {
		return false
	}
	s.add(a, port)
	return true
}

// Release ends the use of port. It fails if port was not in use.
func (s *Space) Release(port uint16) bool {
	d := s.dense.Load()
	if d == nil {
		return s.few.remove(port)
	}
	a := s.allowed.Load()
	if !a.Contains(port) || d.free(bit(a, port)) {
		return false
	}
	d.give(bit(a, port))
	if a.n-d.n <= fewAgain {
		s.toFew(a)
	}
	return true
}

// add puts port, which is free, to use while there are few.
func (s *Space) add(a *Allowed, port uint16) {
	if s.few.n < fewPorts {
		s.few.add(port)
		return
	}
	d := newDense(a, s.few.shared)
	d.take(bit(a, port))
	for port := range s.All() {
		d.take(bit(a, port))
	}
	s.dense.Store(d)
	s.moves.Add(1) // before few changes
	s.few.clear()
}

func (s *Space) toFew(a *Allowed) {
	for port := range s.All() {
		s.few.add(port)
	}
	s.dense.Store(nil)
}

// All ranges over the ports in use, in no order.
func (s *Space) All() iter.Seq[uint16] {
	return func(yield func(uint16) bool) {
		d := s.dense.Load()
		if d == nil {
			for _, w := range s.few.words {
				for ; w != 0; w >>= 16 {
					if port := uint16(w); port != 0 && !yield(port) {
						return
					}
				}
			}
			return
		}
		a := s.allowed.Load()
		for i, w := range a.words {
			for used := w &^ d.words[i]; used != 0; used &= used - 1 {
				if !yield(uint16(a.base + i*64 + bits.TrailingZeros64(used))) {
					return
				}
			}
		}
	}
}

// freeWords returns the free ports as bits, in scratch where s has no such words itself.
func (s *Space) freeWords(scratch *[1 << 16 / 64]uint64) []uint64 {
	a := s.allowed.Load()
	if d := s.dense.Load(); d != nil {
		return d.words[:len(a.words)]
	}
	words := scratch[:copy(scratch[:], a.words)]
	for port := range s.All() {
		words[bit(a, port)/64] &^= 1 << (bit(a, port) % 64)
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
