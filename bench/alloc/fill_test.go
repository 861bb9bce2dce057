package alloc

import (
	"math/rand/v2"
	"testing"

	"github.com/bits-and-blooms/bitset"
	gvrand "gvisor.dev/gvisor/pkg/rand"
)

// orders are the two orders in which ports come into use.
var orders = []string{"own", "random"}

// shuffled is the order of the ports for every contender in order=random: one permutation a run.
var shuffled = shuffle()

func shuffle() []uint16 {
	ports := make([]uint16, size)
	for i, at := range rand.Perm(size) {
		ports[i] = uint16(first + at)
	}
	return ports
}

// walked is the order in which gVisor takes the n ports from first on: it walks from a random port to the next free
// one. walked takes the same offsets from rng, and needs milliseconds where gVisor needs seconds.
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

// filling is a contender that fills up.
type filling struct {
	allocator
	order []uint16 // the ports to hold, in this order; nil: those that it picks
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

// to fills up to per100 percent. It releases nothing.
func (f *filling) to(per100 float64) {
	for n := int(per100 / 100 * size); f.used < n; f.used++ {
		if f.order != nil {
			f.Reserve(f.order[f.used])
		} else if _, ok := f.Acquire(); !ok {
			panic("nothing is free")
		}
	}
}

// TestFillingHoldsItsShare: at 99.99 percent of 64,512 ports, the 7 ports that are left can be acquired, and no more.
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

// TestWalkedIsWhatGVisorPicks: from the same random numbers, gVisor makes the same order.
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

// TestOnlyOwnPicksOfThoseThatWalkCluster: at 90 %, a walk from a random port to the first free one is 10 ports long if
// the ports in use are random. It is 50 ports long if a contender that walks has picked them: (1 + 1 / 0.1²) / 2, as
// in a hash table with linear probing.
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
			t.Errorf("%s: a walk of %.1f ports after its own picks; want about %.0f", p.name, got, want)
		}
	}
	if got := walk(shuffled[:n]); got < 7 || got > 14 {
		t.Errorf("a walk of %.1f ports after random picks", got)
	}
}

// walk returns how many ports a walk looks at until it finds one that is not in taken, on average over all starts.
func walk(taken []uint16) float64 {
	var used [size]bool
	for _, port := range taken {
		used[port-first] = true
	}
	sum, run := 0, 0
	for at := 2*size - 1; at >= 0; at-- { // twice round, because a run may go over the end
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
