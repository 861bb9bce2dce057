package alloc_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/alloc"
)

// notUniform returns an error if the picks are not uniform over the counts. It is a chi-square test with one degree of
// freedom less than there are counts. The sum of squares is too large for picks that are not uniform, and too small for
// picks that take turns. Uniform picks have such a large sum once in 10,000 times, and such a small one as often.
func notUniform(counts []int) error {
	n := 0
	for _, count := range counts {
		n += count
	}
	want := float64(n) / float64(len(counts))
	if want < 5 {
		return fmt.Errorf("%d picks are too few for %d counts", n, len(counts))
	}
	sum := 0.0
	for _, count := range counts {
		off := float64(count) - want
		sum += off * off / want
	}
	low, high := chiSquare(len(counts)-1, -z), chiSquare(len(counts)-1, z)
	if sum < low || sum > high {
		return fmt.Errorf("chi-square of %d picks over %d counts is %.0f, not in [%.0f, %.0f]",
			n, len(counts), sum, low, high)
	}
	return nil
}

// z is the value that a normal variable exceeds with probability 1e-4.
const z = 3.719016

// chiSquare turns the quantile z of the normal distribution into that of the chi-square distribution with k degrees of
// freedom. It uses the approximation of Wilson and Hilferty: the cube root of chi-square/k is nearly normal, with mean
// 1-2/9k and variance 2/9k. It is good for k >= 10. Below that, the test accepts too much rather than too little.
func chiSquare(k int, z float64) float64 {
	if k == 0 {
		return 0
	}
	v := 2 / (9 * float64(k))
	root := max(0, 1-v+z*math.Sqrt(v))
	return float64(k) * root * root * root
}

// For an even number k of degrees of freedom, chi-square exceeds x with the probability that a Poisson variable with
// mean x/2 is below k/2. The test compares the approximation with this exact value.
func TestUniformPicksAreRejectedOnceIn10000(t *testing.T) {
	exceeds := func(k int, x float64) (p float64) {
		for i := range k / 2 {
			lgamma, _ := math.Lgamma(float64(i) + 1)
			p += math.Exp(float64(i)*math.Log(x/2) - x/2 - lgamma)
		}
		return p
	}
	for _, k := range []int{10, 18, 30, 100, 1000, 10_000, 64_510} {
		require.InDelta(t, 1e-4, exceeds(k, chiSquare(k, z)), 2e-5, "%d degrees of freedom, too large", k)
		require.InDelta(t, 1e-4, 1-exceeds(k, chiSquare(k, -z)), 6e-5, "%d degrees of freedom, too small", k)
	}
}

// filled returns a Ports with a random part of its ports in use, and the free ports. fill is the share in use, 0 to 1.
func filled(t *testing.T, set alloc.Set, fill float64, rand func() uint64) (*alloc.Ports, []uint16) {
	t.Helper()
	p := alloc.NewFrom(set, rand)
	for range int(fill * float64(set.Len())) {
		_, ok := p.Acquire()
		require.True(t, ok)
	}
	var free []uint16
	for port := range set.All() {
		if !p.Contains(port) {
			free = append(free, port)
		}
	}
	return p, free
}

// tally picks 8 times as often as there are free ports, at least 1,000 times, and counts the picks of each port.
func tally(t *testing.T, free []uint16, pick func() uint16) []int {
	t.Helper()
	var index [1 << 16]int
	for i, port := range free {
		index[port] = i + 1
	}
	counts := make([]int, len(free))
	for range max(8*len(free), 1000) {
		port := pick()
		if index[port] == 0 {
			require.Fail(t, "picked a port that is not free", "%d", port)
		}
		counts[index[port]-1]++
	}
	return counts
}

// The sets are contiguous or have holes. The ports in use are a list (up to 64) or bits (more).
func TestEachFreePortIsPickedAlike(t *testing.T) {
	for i, c := range []struct{ set, in string }{
		{"1024-65535", "1-65535"},
		{"1024-65535", "20000-20999,!20100-20199,60000"},
		{"32768-60999,!33333,!40000-40100,!60999", "1024-50000"},
		{every(16, 7, 65535).String(), "1-32767"},
		{"1,65535", "1-65535"},
		{"5000-5063", "5000-5031"},
		{"5000-5149,!5010-5019", "5005-5099"},
		{"100-199,65500-65535", "150-65510"},
	} {
		set, in := alloc.MustParseSet(c.set), alloc.MustParseSet(c.in)
		if testing.Short() && set.Len() > 30_000 {
			continue
		}
		for _, fill := range []float64{0, 0.5, 0.9, 0.999} {
			t.Run(fmt.Sprintf("set=%.20s/in=%s/fill=%g", c.set, c.in, 100*fill), func(t *testing.T) {
				t.Logf("seed: rand.NewPCG(1, %d)", i)
				p, free := filled(t, set, fill, rand.NewPCG(1, uint64(i)).Uint64)
				pick := func(port uint16, ok bool) uint16 {
					if !ok || !p.Release(port) {
						require.Fail(t, "no port", "%d free", p.Free())
					}
					return port
				}
				require.NoError(t, notUniform(tally(t, free, func() uint16 { return pick(p.Acquire()) })), "Acquire")
				free = slices.DeleteFunc(free, func(port uint16) bool { return !in.Contains(port) })
				if len(free) > 0 {
					require.NoError(t, notUniform(tally(t, free, func() uint16 {
						return pick(p.AcquireIn(in))
					})), "AcquireIn")
				}
			})
		}
	}
}

// Picks are uniform on both sides of a threshold: in a list that is about to become bits, and in bits that were a list
// or are about to become one.
func TestEachFreePortIsPickedAlikeInEitherForm(t *testing.T) {
	t.Log("seed: rand.NewPCG(3, 1)")
	p := alloc.NewFrom(alloc.MustParseSet("5000-5499,!5100-5199"), rand.NewPCG(3, 1).Uint64)
	var held []uint16
	for _, target := range []int{1, 32, 64, 65, 70, 64, 33, 32, 31} {
		for len(held) < target {
			port, ok := p.Acquire()
			require.True(t, ok)
			held = append(held, port)
		}
		for len(held) > target {
			require.True(t, p.Release(held[0]))
			held = held[1:]
		}
		var free []uint16
		for port := uint16(5000); port < 5500; port++ {
			if (port < 5100 || port > 5199) && !p.Contains(port) {
				free = append(free, port)
			}
		}
		require.NoError(t, notUniform(tally(t, free, func() uint16 {
			port, _ := p.Acquire()
			p.Release(port)
			return port
		})), "%d in use", target)
	}
}

// While ports come and go, first in first out, the rank of each pick among the free ports is uniform. The pair of two
// successive ranks is uniform too. So nobody can predict the next pick from the history.
func TestPicksDoNotDependOnTheHistory(t *testing.T) {
	for i, inUse := range []int{0, 40, 90, 180} {
		t.Logf("seed: rand.NewPCG(4, %d)", i)
		set := alloc.MustParseSet("3000-3249,!3050-3099")
		p, _ := filled(t, set, 0, rand.NewPCG(4, uint64(i)).Uint64)
		m := newModel(set)
		n := set.Len() - inUse // free at each pick, a multiple of 10
		ranks, pairs := make([]int, n), make([]int, 100)
		var held []uint16
		before := 0
		for step := range 8000 {
			free := m.free(set.Contains)
			port, ok := p.Acquire()
			require.True(t, ok)
			rank := slices.Index(free, port)
			if rank < 0 {
				require.Fail(t, "picked a port that is not free", "%d", port)
			}
			m.used[port] = true
			held = append(held, port)
			if len(held) <= inUse { // still filling
				continue
			}
			ranks[rank]++
			tenth := rank * 10 / n
			if step%2 == 1 {
				pairs[before*10+tenth]++
			}
			before = tenth
			require.True(t, p.Release(held[0]))
			delete(m.used, held[0])
			held = held[1:]
		}
		require.NoError(t, notUniform(ranks), "%d in use", inUse)
		require.NoError(t, notUniform(pairs), "%d in use: pairs", inUse)
	}
}

// The tests above can fail: they reject picks that look random but are not uniform.
func TestPicksThatOnlyLookRandomAreRejected(t *testing.T) {
	set := alloc.RangeSet(1024, 65535)
	t.Log("seed: rand.NewPCG(5, 1)")
	rng := rand.New(rand.NewPCG(5, 1))
	for _, fill := range []float64{0.5, 0.9, 0.999} {
		_, free := filled(t, set, fill, rng.Uint64)
		fair := func() uint16 { return free[rng.IntN(len(free))] }
		require.NoError(t, notUniform(tally(t, free, fair)), "%g full: fair", fill)

		next := func() uint16 { // the first free port after a random one
			i, _ := slices.BinarySearch(free, uint16(1024+rng.IntN(set.Len())))
			return free[i%len(free)]
		}
		require.Error(t, notUniform(tally(t, free, next)), "%g full: the next free one", fill)

		turn := -1
		turns := func() uint16 { turn++; return free[turn%len(free)] }
		require.Error(t, notUniform(tally(t, free, turns)), "%g full: in turns", fill)
	}
	_, free := filled(t, set, 0, rng.Uint64)
	modulo := func() uint16 { return free[rng.IntN(1<<16)%len(free)] }
	require.Error(t, notUniform(tally(t, free, modulo)), "empty: 16 bits modulo the number")
}

// Two Ports do not make the same picks: New does not seed a generator.
func TestTwoPortsPickDifferently(t *testing.T) {
	set := alloc.RangeSet(1024, 65535)
	a, b := alloc.New(set), alloc.New(set)
	var as, bs []uint16
	for range 32 {
		port, _ := a.Acquire()
		as = append(as, port)
		port, _ = b.Acquire()
		bs = append(bs, port)
	}
	require.NotEqual(t, as, bs)
}
