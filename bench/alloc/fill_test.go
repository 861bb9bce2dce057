package alloc

import (
	"math/rand/v2"
	"testing"

	"github.com/bits-and-blooms/bitset"
	gvrand "gvisor.dev/gvisor/pkg/rand"
)

// orders are the two ways in which ports come to be in use.
var orders = []string{"own", "random"}

// shuffled is the order in which every contender is filled in order=random: one permutation a run.
var shuffled = shuffle()

func shuffle() []uint16 {
	ports := make([]uint16, size)
	for i, at := range rand.Perm(size) {
		ports[i] = uint16(first + at)
	}
	return ports
}

// walked is the order in which one that walks on from a random port to the first that is free takes the n ports from
// first on. It takes the offsets that gVisor would take from rng, and milliseconds where gVisor takes seconds.
func walked(rng gvrand.RNG, n int) []uint16 {
	used := bitset.New(uint(n))
	ports := make([]uint16, n)
	for i := range ports {
		at, ok := used.NextClear(uint(rng.Uint32() % uint32(n)))
		if !ok {
			at, _ = used.NextClear(0)
		}
		used.Set(at)
		ports[i] = uint16(first + at)
	}
	return ports
}

// filling is a contender on its way from empty to full.
type filling struct {
	allocator
	order []uint16 // what it is to hold, in this order; nil: what it picks
	used  int
}

func (p peer) fill(order string) *filling {
	f := &filling{allocator: p.new()}
	switch {
	case order == "random":
		f.order = shuffled
	case p.picks != nil:
		f.order = p.picks()
	}
	return f
}

// to fills on to per100 per cent. It never empties.
func (f *filling) to(per100 float64) {
	for n := int(per100 / 100 * size); f.used < n; f.used++ {
		if f.order != nil {
			f.Reserve(f.order[f.used])
		} else if _, ok := f.Acquire(); !ok {
			panic("nothing is free")
		}
	}
}

// TestFillingHoldsItsShare: of 64,512 ports, those that 99.99 per cent leave can be acquired, and no more.
func TestFillingHoldsItsShare(t *testing.T) {
	for _, p := range peers {
		for _, order := range orders {
			f := p.fill(order)
			for _, fill := range fills {
				f.to(fill)
			}
			n := 0
			for ok := true; ok && n <= size; n++ {
				_, ok = f.Acquire()
			}
			if n-1 != 7 {
				t.Errorf("%s: %d ports are free, filled in order %s", p.name, n-1, order)
			}
		}
	}
}

// TestWalkedIsWhatGVisorPicks: of the same random numbers, gVisor makes the same order.
func TestWalkedIsWhatGVisorPicks(t *testing.T) {
	const n = 2000
	seed := [32]byte{1}
	a := newGVisor(rand.NewChaCha8(seed), first, first+n-1)
	for i, want := range walked(gvrand.RNGFrom(rand.NewChaCha8(seed)), n) {
		if got, ok := a.Acquire(); !ok || got != want {
			t.Fatalf("gVisor picks %d, %v after %d ports, not %d", got, ok, i, want)
		}
	}
}

// TestOnlyOwnPicksOfThoseThatWalkCluster: at 90 %, from a random port on, the first that is free is the tenth of
// those that were filled at random, but the 50th of those that walk and were filled by their own picks: (1 + 1 /
// 0.1²) / 2, as in a hash table with linear probing.
func TestOnlyOwnPicksOfThoseThatWalkCluster(t *testing.T) {
	const n = size * 9 / 10
	for _, p := range peers {
		want := 10.0
		switch p.name {
		case "nextclear", "map", "k8s", "gvisor":
			want = 50
		}
		f, taken := p.fill("own"), []uint16(nil)
		if f.order != nil {
			taken = f.order[:n]
		}
		for len(taken) < n {
			port, _ := f.Acquire()
			taken = append(taken, port)
		}
		if got := walk(taken); got < 0.7*want || got > 1.4*want {
			t.Errorf("%s: a walk of %.1f ports, filled by its own picks; want some %.0f", p.name, got, want)
		}
	}
	if got := walk(shuffled[:n]); got < 7 || got > 14 {
		t.Errorf("a walk of %.1f ports, filled at random", got)
	}
}

// walk returns how many ports are looked at, on average over all ports to start from, until one is not among taken.
func walk(taken []uint16) float64 {
	var used [size]bool
	for _, port := range taken {
		used[port-first] = true
	}
	sum, run := 0, 0
	for at := 2*size - 1; at >= 0; at-- { // twice round: the first round finds the run that goes over the end
		run++
		if !used[at%size] {
			run = 1
		}
		if at < size {
			sum += run
		}
	}
	return float64(sum) / size
}
