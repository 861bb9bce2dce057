package ports

import (
	"iter"
	"math/bits"
	"sync/atomic"
)

// Space has the ports in use out of an Allowed. The zero Space is empty. Call Use before anything else, to say which
// ports are allowed. A Space must not be copied after its first use.
//
// It is not safe for concurrent use, with one exception: if Share was called before the first use, any goroutine may
// call Contains while another one changes the Space.
type Space struct {
	allowed atomic.Pointer[Allowed]

	few   few
	dense atomic.Pointer[dense] // replaces few when that is full; nil until then
	moves atomic.Uint32         // how often dense has replaced few
}

// fewAgain is the number of ports at which a Space goes back from dense to few. It is less than fewPorts, so that a
// Space with about fewPorts ports does not change its form again and again.
const fewAgain = fewPorts / 2

// Share makes it safe to call Contains without the lock that guards s. Each change then takes 5 ns longer.
func (s *Space) Share() { s.few.shared = true }

// Use sets the allowed ports. No port may be in use.
func (s *Space) Use(a *Allowed) {
	if s.allowed.Load() != a { // a load is faster than an atomic store
		s.allowed.Store(a)
	}
}

// Allowed returns the argument of the last Use.
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
		// A port may have moved from few to dense during the look, or back. Each dense is a new one, and an old one no
		// longer changes. So the answer is right unless few was cleared in the meantime.
		if s.moves.Load() == moves {
			return in
		}
	}
}

// Acquire takes a free port into use, each with the same probability. It fails only if no port is free. It uses the
// random number r, and if needed more from rand.
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
	// Draw allowed ports until one is free. That is uniform over the free ports. If many ports are allowed, the first
	// draw is nearly always free. The last free one of 64 ports takes 64 draws on average.
	for {
		port = a.port(int(below(uint64(a.n), r, rand)))
		if s.few.find(port, s.few.top) < 0 {
			s.add(a, port)
			return port, true
		}
		r = rand()
	}
}

// AcquireIn is Acquire among the ports that are in in too. It fails if Use was never called.
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

// HasFreeIn reports whether a free port is in in.
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

// Reserve takes port into use. It fails if port is not allowed or is in use already.
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

// Release makes port free again. It fails if port is not in use.
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

// add takes a free port into use while s has no dense. It makes one if few is full.
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

// All yields the ports in use, in no order.
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

// freeWords returns the free ports as bits. It uses scratch if s has no such words itself.
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

// overlap returns the parts x of a and y of b that stand for the same ports, and the port of their first bit. The first
// bit of a stands for port aBase, and that of b for port bBase.
func overlap(a []uint64, aBase int, b []uint64, bBase int) (x, y []uint64, base int) {
	base = max(aBase, bBase)
	end := min(aBase+64*len(a), bBase+64*len(b))
	if end <= base {
		return nil, nil, 0
	}
	return a[(base-aBase)/64 : (end-aBase)/64 : (end-aBase)/64], b[(base-bBase)/64 : (end-bBase)/64], base
}

func bit(a *Allowed, port uint16) uint { return uint(int(port) - a.base) }
