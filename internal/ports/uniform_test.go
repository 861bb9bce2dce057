package ports

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// The tests in this file are exact, because they do not sample. They give a choice every random number that could make
// a difference, or one of each kind, and check the result of each.

// script returns a source of these random numbers, in this order, and a function that reports how many are left. It
// panics after the last one.
func script(draws ...uint64) (rand func() uint64, left func() int) {
	rand = func() uint64 {
		next := draws[0]
		draws = draws[1:]
		return next
	}
	return rand, func() int { return len(draws) }
}

// drawFor returns a random number for which below(n) returns r.
func drawFor(r, n int) uint64 {
	q, _ := bits.Div64(uint64(r), 0, uint64(n)) // r·2^64/n, rounded down; q+2 is never rejected
	return q + 2
}

func TestBelowGivesEachNumberEquallyManyDraws(t *testing.T) {
	for _, n := range []uint64{
		1, 2, 3, 5, 6, 7, 10, 63, 64, 65, 100, 28227, 64511, 64512, 65535, 65536, 1<<32 + 1, 1<<63 - 1, 1 << 63,
		1<<63 + 1, math.MaxUint64 - 1, math.MaxUint64,
	} {
		rejected := -n % n // how many of the 2^64 draws are left over
		for _, k := range []uint64{0, 1, 2, n / 3, n / 2, n - 2, n - 1} {
			if k >= n {
				continue
			}
			// The draws v with k·2^64 + rejected <= v·n < (k+1)·2^64 result in k.
			first, rest := bits.Div64(k, rejected, n)
			if rest > 0 {
				first++
			}
			last, _ := bits.Div64(k, math.MaxUint64, n)
			require.Equal(t, -n/n, last-first, "%d of %d: not as many draws as the others", k, n)
			for _, v := range []uint64{first, first + (last-first)/2, last} {
				rand, _ := script()
				require.Equal(t, k, below(n, v, rand), "%d of %d", k, n)
			}
			if hi, _ := bits.Mul64(first-1, n); first > 0 && hi == k { // left over, so drawn again
				rand, left := script(last)
				require.Equal(t, k, below(n, first-1, rand), "%d of %d", k, n)
				require.Zero(t, left(), "%d of %d: a draw that is left over was used", k, n)
			}
		}
	}
}

func TestNthBitIsTheSlowSelect(t *testing.T) {
	t.Log("seed: rand.NewPCG(1, 2)")
	rng := rand.New(rand.NewPCG(1, 2))
	words := []uint64{
		1, 1 << 31, 1 << 32, 1 << 63, 1<<63 | 1,
		math.MaxUint64, math.MaxUint32, math.MaxUint32 << 32, 0x5555555555555555,
	}
	for range 3000 {
		words = append(words, rng.Uint64(),
			rng.Uint64()&rng.Uint64()&rng.Uint64(), rng.Uint64()|rng.Uint64()|rng.Uint64())
	}
	for _, w := range words {
		r := uint64(0)
		for at := range uint(64) {
			if w>>at&1 == 0 {
				continue
			}
			if got := nthBit(w, r); got != at {
				require.Equal(t, at, got, "bit %d of %#x", r, w)
			}
			r++
		}
	}
}

func TestNthIsTheSlowSelectForEveryRank(t *testing.T) {
	for i, shape := range shapes {
		t.Logf("seed: rand.NewPCG(2, %d)", i)
		rng := rand.New(rand.NewPCG(2, uint64(i)))
		a := Allow(slices.Values(shape.ports))
		for _, fill := range []float64{0, 0.5, 0.9, 0.999} {
			d := newDense(a, false)
			for _, port := range shape.ports {
				if rng.Float64() < fill {
					d.take(bit(a, port))
				}
			}
			r := uint64(0)
			for at := range uint(64 * len(d.words)) {
				if !d.free(at) {
					continue
				}
				if got := d.nth(r); got != at {
					require.Equal(t, at, got, "%s, %g full: rank %d of %d", shape.name, fill, r, d.n)
				}
				r++
			}
			require.EqualValues(t, d.n, r, "%s, %g full", shape.name, fill)
		}
	}
}

// Each of the four probes reads its own 16 bits of a random number. Exactly one value of the bits that a probe keeps
// hits each free port. So if a probe hits, each free port has the same probability.
func TestEachProbeHitsEachFreePortWithOneValue(t *testing.T) {
	for i, shape := range shapes {
		if len(shape.ports) < 2 {
			continue
		}
		t.Logf("seed: rand.NewPCG(3, %d)", i)
		rng := rand.New(rand.NewPCG(3, uint64(i)))
		a := Allow(slices.Values(shape.ports))
		d := newDense(a, false)
		if 4*(d.n-1) < 64*len(d.words) {
			continue // choose does not probe
		}
		miss := bit(a, shape.ports[rng.IntN(a.n)])
		d.take(miss)
		for _, port := range shape.ports {
			// choose does not probe if less than a quarter is free.
			if rng.IntN(2) == 0 && d.free(bit(a, port)) && 4*(d.n-1) >= 64*len(d.words) {
				d.take(bit(a, port))
			}
		}
		lowest := d.nth(0)
		for lane := range 4 {
			hits := 0
			for value := range uint(a.probe) + 1 {
				first := uint64(0)
				for j := range 4 {
					bits := miss
					if j == lane {
						bits = value
					}
					garbage := rng.Uint64() &^ a.probe & (1<<16 - 1)
					first |= (uint64(bits) | garbage) << (16 * j)
				}
				rand, left := script(drawFor(0, d.n))
				got := d.choose(a.probe, first, rand)
				if left() == 1 {
					hits++
					if got != value || !d.free(got) {
						require.Fail(t, "a probe for one position gave another",
							"%s: %d gave %d", shape.name, value, got)
					}
				} else if got != lowest || value/64 < uint(len(d.words)) && d.free(value) {
					require.Fail(t, "a probe missed a free port", "%s: %d gave %d", shape.name, value, got)
				}
			}
			require.Equal(t, d.n, hits, "%s: probe %d", shape.name, lane)
		}
	}
}

// If less than a quarter is free, choose does not probe. It takes the free port of rank r, and r is uniform.
func TestChooseTakesTheRthFreePortWhereFewAreFree(t *testing.T) {
	for i, shape := range shapes {
		if len(shape.ports) == 0 {
			continue
		}
		t.Logf("seed: rand.NewPCG(4, %d)", i)
		rng := rand.New(rand.NewPCG(4, uint64(i)))
		a := Allow(slices.Values(shape.ports))
		d := newDense(a, false)
		var free []uint
		for _, port := range shape.ports {
			if d.n > 1 && (rng.IntN(8) != 0 || 4*d.n >= 64*len(d.words)) {
				d.take(bit(a, port))
			} else {
				free = append(free, bit(a, port))
			}
		}
		if 4*d.n >= 64*len(d.words) {
			continue
		}
		for r, want := range free {
			rand, _ := script()
			if got := d.choose(a.probe, drawFor(r, d.n), rand); got != want {
				require.Equal(t, want, got, "%s: rank %d of %d", shape.name, r, d.n)
			}
		}
	}
}

// While few ports are in use, Acquire draws among the allowed ports and takes the first free one.
func TestAcquireTakesTheFirstFreePortThatIsDrawn(t *testing.T) {
	for i, shape := range shapes {
		t.Logf("seed: rand.NewPCG(6, %d)", i)
		rng := rand.New(rand.NewPCG(6, uint64(i)))
		a := Allow(slices.Values(shape.ports))
		for _, n := range []int{0, 1, 2, fewAgain, fewPorts - 1, fewPorts} {
			if n >= a.n {
				continue
			}
			used := rng.Perm(a.n)[:n] // ranks
			for rank, port := range shape.ports {
				if slices.Contains(used, rank) || rank%37 != 0 && a.n > 1000 {
					continue
				}
				var draws []uint64
				for range rng.IntN(3) {
					if n > 0 {
						draws = append(draws, drawFor(used[rng.IntN(n)], a.n))
					}
				}
				draws = append(draws, drawFor(rank, a.n))
				var s Space
				s.Use(a)
				for _, rank := range used {
					require.True(t, s.Reserve(a.port(rank)))
				}
				rand, left := script(draws[1:]...)
				got, ok := s.Acquire(draws[0], rand)
				if got != port || !ok || left() != 0 || s.Len() != n+1 || !s.Contains(port) {
					require.Equal(t, port, got, "%s: %d in use", shape.name, n)
					require.Fail(t, "the right port, but the wrong state after it")
				}
			}
		}
	}
}

func TestAcquireInTakesTheRthFreePortOfBothSets(t *testing.T) {
	for i, shape := range shapes {
		t.Logf("seed: rand.NewPCG(5, %d)", i)
		rng := rand.New(rand.NewPCG(5, uint64(i)))
		a := Allow(slices.Values(shape.ports))
		for _, other := range shapes {
			in := Allow(slices.Values(other.ports))
			for _, n := range []int{1, fewAgain, 3 * fewPorts, a.n - 3} {
				if n >= a.n || n < 1 {
					continue
				}
				var s Space
				s.Use(a)
				m := newModel(shape.ports)
				for len(m.used) < n {
					port, _ := s.Acquire(rng.Uint64(), rng.Uint64)
					m.used[port] = true
				}
				free := m.free(in)
				missing := slices.IndexFunc(other.ports, func(port uint16) bool {
					return m.used[port] || !a.Contains(port)
				})
				if missing < 0 || len(free) == 0 {
					continue
				}
				miss := drawFor(missing, in.n) // both tries miss, so AcquireIn counts
				for k := range min(len(free), 50) {
					r := k * (len(free) - 1) / max(1, min(len(free), 50)-1)
					rand, left := script(miss, miss, drawFor(r, len(free)))
					got, ok := s.AcquireIn(in, rand)
					require.True(t, ok)
					require.Equal(t, free[r], got, "%s in %s: rank %d of %d", other.name, shape.name, r, len(free))
					require.Zero(t, left())
					require.True(t, s.Release(got))
				}
			}
		}
	}
}

func TestAcquireInTriesEachPortOfTheSetEqually(t *testing.T) {
	a := Allow(slices.Values(span(1024, 65535, 1)))
	ports := span(5000, 5040, 2)
	in := Allow(slices.Values(ports))
	for rank, port := range ports {
		var s Space
		s.Use(a)
		rand, left := script(drawFor(rank, in.n))
		got, ok := s.AcquireIn(in, rand)
		require.True(t, ok)
		require.Equal(t, port, got)
		require.Zero(t, left())
	}
}
