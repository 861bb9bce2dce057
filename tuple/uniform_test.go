package tuple_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

// sample acquires and releases n times and returns how often each port came up, in the order of free. Any other port
// fails the test.
func sample(t *testing.T, p *tuple.Pool, free []uint16, n int) []int {
	index := map[uint16]int{}
	for i, port := range free {
		index[port] = i
	}
	counts := make([]int, len(free))
	for range n {
		u, err := p.TryAcquire(web)
		if err != nil || !p.Release(u) {
			require.NoError(t, err)
			require.Fail(t, "not released", "%v", u)
		}
		i, ok := index[u.Src().Port()]
		if !ok {
			require.Fail(t, "a port that is not free", "%v", u)
		}
		counts[i]++
	}
	return counts
}

// fills are ways to choose which ports stay free.
var fills = map[string]func(rng *rand.Rand, ports, free int) []bool{
	"random": func(rng *rand.Rand, ports, free int) []bool {
		isFree := make([]bool, ports)
		for _, i := range rng.Perm(ports)[:free] {
			isFree[i] = true
		}
		return isFree
	},
	// One free port lies alone and the others in a run. A scan from a random place prefers the one that is alone.
	"lumps": func(_ *rand.Rand, ports, free int) []bool {
		isFree := make([]bool, ports)
		isFree[ports/2] = true
		for i := range free - 1 {
			isFree[(ports-i+7)%ports] = true
		}
		return isFree
	},
}

func TestEveryFreePortIsEquallyLikely(t *testing.T) {
	const ports = 64512
	seed := uint64(0)
	for _, name := range []string{"random", "lumps"} {
		for _, percent := range []float64{0, 50, 90, 99.9} {
			seed++
			if name == "lumps" && percent == 0 {
				continue // all free ports are one run
			}
			t.Run(fmt.Sprintf("fill=%s/percent=%g", name, percent), func(t *testing.T) {
				rng := seeded(t, 10, seed)
				p := new(tuple.Pool)
				p.SetRand(rng.Uint64)
				n := ports - int(ports*percent/100)
				var free []uint16
				for i, isFree := range fills[name](rng, ports, n) {
					port := uint16(1024 + i)
					if isFree {
						free = append(free, port)
					} else {
						require.True(t, p.Reserve(tuple.KeyFrom(ap("0.0.0.0:0").Addr(), web).Tuple(port)))
					}
				}
				require.Equal(t, n, len(free))
				chiSquare(t, sample(t, p, free, max(20000, scaled(8*n))), name)
				require.NoError(t, p.Check())
			})
		}
	}
}

// The same for few ports, for which a list holds the ports in use, and with a gap between the ports.
func TestEveryFreePortOfASmallSetIsEquallyLikely(t *testing.T) {
	list := append(portList(2000, 40, 1), portList(50000, 40, 3)...)
	for held := range len(list) {
		rng := rand.New(rand.NewPCG(11, uint64(held)))
		p := &tuple.Pool{Ports: setOf(list)}
		p.SetRand(rng.Uint64)
		free := append([]uint16(nil), list...)
		for range held {
			port := acquire(t, p, web).Src().Port()
			for i := range free {
				if free[i] == port {
					free = append(free[:i], free[i+1:]...)
					break
				}
			}
		}
		if len(free) > 1 {
			chiSquare(t, sample(t, p, free, scaled(100*len(free)+1000)), fmt.Sprintf("%d held", held))
		}
	}
}

// After many acquires without a release, the set of held ports is uniform too.
func TestWhichPortsAreHeldIsUniform(t *testing.T) {
	rng := seeded(t, 12, 1)
	counts := make([]int, 200)
	for range scaled(2000) {
		p := &tuple.Pool{Ports: alloc.RangeSet(3000, 3199)}
		p.SetRand(rng.Uint64)
		var held []tuple.Tuple
		for range 100 {
			held = append(held, acquire(t, p, web))
		}
		for i := range 50 {
			require.True(t, p.Release(held[2*i]))
		}
		for i := range 50 {
			held[2*i] = acquire(t, p, web)
		}
		for _, u := range held {
			counts[u.Src().Port()-3000]++
		}
	}
	chiSquare(t, counts, "held in the end")
}

// The statistic is sharp enough: it rejects a choice of the next free port after a random one, and a choice that leaves
// out a single port.
func TestChiSquareRejectsChoicesThatAreNotUniform(t *testing.T) {
	rng := seeded(t, 13, 1)
	isFree := fills["lumps"](rng, 64512, 64)
	next, lacking := make([]int, 64512), make([]int, 65)
	for range 20000 {
		i := rng.IntN(len(isFree))
		for !isFree[i] {
			i = (i + 1) % len(isFree)
		}
		next[i]++
		lacking[rng.IntN(64)]++
	}
	counts := make([]int, 0, 64)
	for i, n := range next {
		if isFree[i] {
			counts = append(counts, n)
		}
	}
	for _, counts := range [][]int{counts, lacking} {
		stat, limit := chi(counts)
		require.Greater(t, stat, limit)
	}
}

func TestRetiredPortIsNotPickedUntilItHasCooledDownAndThenLikeAnyOther(t *testing.T) {
	for _, n := range []int{10, 200} {
		synctest.Test(t, func(t *testing.T) {
			rng := seeded(t, 14, uint64(n))
			p := &tuple.Pool{Ports: alloc.RangeSet(3000, uint16(3000+n-1))}
			p.SetRand(rng.Uint64)
			for range n * 9 / 10 {
				require.True(t, p.Retire(acquire(t, p, web), time.Minute))
			}
			var free []uint16
			for _, port := range portList(3000, n, 1) {
				if !p.Contains(tuple.KeyFrom(ap("0.0.0.0:0").Addr(), web).Tuple(port)) {
					free = append(free, port)
				}
			}
			require.Len(t, free, n/10)
			time.Sleep(time.Minute - time.Nanosecond)
			sample(t, p, free, scaled(5000)) // fails if any other is picked
			require.Equal(t, n*9/10, p.Stats().Retired)
			time.Sleep(time.Nanosecond)
			chiSquare(t, sample(t, p, portList(3000, n, 1), scaled(50000)), "after the cool-down")
			require.Zero(t, p.Stats())
		})
	}
}
