package held_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/internal/held"
)

// sample acquires and frees n times, and counts how often each of the free ports came up. Any other fails the test.
func sample(t *testing.T, s *side, ask func() *held.Ask, number uint64, free []uint16, n int) []int {
	index, counts := map[uint16]int{}, make([]int, len(free))
	for i, port := range free {
		index[port] = i
	}
	for range n {
		a := ask()
		h, ok := s.Find(a.Key, a.Hash).Acquire(a, &s.rules)
		i, isFree := index[h.Port()]
		if !ok || !isFree || h.Number() != number {
			require.Fail(t, "not free", "%v: source %d, port %d", ok, h.Number(), h.Port())
		}
		counts[i]++
		s.Find(a.Key, a.Hash).Free(h, &s.rules)
	}
	return counts
}

// In cells, in a list and as bits; fresh, and after many tuples have come and gone; of any port, and of some.
func TestEveryFreePortOfTheSourceIsEquallyLikely(t *testing.T) {
	sets := map[string][]uint16{
		"few": span(3000, 12), "many": span(3000, 400), "a hole": append(span(3000, 40), span(50000, 40)...),
	}
	for name, list := range sets {
		for _, percent := range []int{0, 10, 50, 90} {
			for _, churned := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/percent=%d/churned=%t", name, percent, churned), func(t *testing.T) {
					s := newSide(held.RoundRobin, uint64(percent), list, "192.0.2.0/31")
					src := held.AddrFrom(netip.MustParseAddr("192.0.2.1"))
					ask := func() *held.Ask {
						a := s.ask(web)
						a.Src = src
						return a
					}
					free := fillSome(t, s, ask, list, percent, churned)
					s.check(t)
					chiSquare(t, sample(t, s, ask, 1, free, 100*len(free)+1000), "any port")
					wanted := slices.DeleteFunc(slices.Clone(free), func(port uint16) bool { return port%3 == 0 })
					if len(wanted) < 2 {
						return
					}
					among := allow(wanted)
					counts := sample(t, s, func() *held.Ask {
						a := ask()
						a.Ports = among
						return a
					}, 1, wanted, 100*len(wanted)+1000)
					chiSquare(t, counts, "some ports")
				})
			}
		}
	}
}

// fillSome holds a part of the ports of the source, and returns the others. If churned, many come and go first.
func fillSome(t *testing.T, s *side, ask func() *held.Ask, list []uint16, percent int, churned bool) []uint16 {
	rng := rand.New(rand.NewPCG(5, uint64(percent)))
	free := slices.Clone(list)
	acquire := func() {
		a := ask()
		h, ok := s.Find(a.Key, a.Hash).Acquire(a, &s.rules)
		require.True(t, ok)
		i := slices.Index(free, h.Port())
		require.GreaterOrEqual(t, i, 0, "port %d was not free", h.Port())
		free = slices.Delete(free, i, i+1)
	}
	if churned {
		for len(free) > 0 {
			acquire()
		}
		for range 500 {
			port := list[rng.IntN(len(list))]
			if !slices.Contains(free, port) {
				s.free(web, held.HoldOf(1, port))
				free = append(free, port)
			} else if len(free) > 3 {
				acquire()
			}
		}
	}
	want := len(list) * percent / 100
	for len(list)-len(free) < want {
		acquire()
	}
	for len(list)-len(free) > want {
		port := list[rng.IntN(len(list))]
		if !slices.Contains(free, port) {
			s.free(web, held.HoldOf(1, port))
			free = append(free, port)
		}
	}
	slices.Sort(free)
	return free
}

// Random chooses each source with a free port equally often, however many are full, and among those alone that have a
// free port of the ones that are asked for.
func TestRandomIsUniformOverTheSourcesWithAFreePort(t *testing.T) {
	for _, full := range []int{0, 3, 50, 61} {
		t.Run(fmt.Sprint("full=", full), func(t *testing.T) {
			s := newSide(held.Random, uint64(full), span(3000, 5), "192.0.2.0/26")
			rng := rand.New(rand.NewPCG(6, uint64(full)))
			isFull := map[uint64]bool{}
			for _, i := range rng.Perm(64)[:full] {
				isFull[uint64(i)] = true
				for _, port := range span(3000, 5) {
					s.reserve(web, held.HoldOf(uint64(i), port))
				}
			}
			lacks := uint64(0) // a source that is not full, and has no port of those asked for
			for isFull[lacks] {
				lacks++
			}
			s.reserve(web, held.HoldOf(lacks, 3001))
			s.reserve(web, held.HoldOf(lacks, 3002))
			s.check(t)
			sources := func(ask func() *held.Ask, want int) {
				index, counts := map[uint64]int{}, make([]int, want)
				for range 200 * want {
					h, ok := s.find(web).Acquire(ask(), &s.rules)
					require.True(t, ok && !isFull[h.Number()])
					if _, ok := index[h.Number()]; !ok {
						index[h.Number()] = len(index)
						require.LessOrEqual(t, len(index), want)
					}
					counts[index[h.Number()]]++
					s.free(web, h)
				}
				chiSquare(t, counts, "sources")
			}
			sources(func() *held.Ask { return s.ask(web) }, 64-full)
			some := allow(span(3001, 2))
			sources(func() *held.Ask {
				a := s.ask(web)
				a.Ports = some
				return a
			}, 63-full)
		})
	}
}

// LeastUsed chooses at random among those that hold the fewest.
func TestLeastUsedIsUniformOverTheLeastUsed(t *testing.T) {
	for _, alreadyHeld := range []int{0, 2, 7, 16, 20} {
		counts := make([]int, 16)
		for round := range 1500 {
			s := newSide(held.LeastUsed, uint64(round), span(3000, 9), "192.0.2.0/28")
			rest := map[uint64]bool{}
			for range alreadyHeld {
				h := s.acquire(t, web)
				if len(rest) == 0 {
					for i := range uint64(16) {
						rest[i] = true
					}
				}
				require.True(t, rest[h.Number()], "others hold fewer")
				delete(rest, h.Number())
			}
			counts[s.acquire(t, web).Number()]++
		}
		chiSquare(t, counts, fmt.Sprint(alreadyHeld, " held"))
	}
}

// The first source of a destination is random too, so that short-lived ones do not all leave from the same.
func TestFirstTurnIsUniform(t *testing.T) {
	for _, first := range []string{"acquire", "reserve"} {
		s := newSide(held.RoundRobin, 9, span(3000, 9), "192.0.2.0/28")
		counts := make([]int, 16)
		for i := range 1600 {
			if first == "reserve" {
				s.reserve(dstN(i), held.HoldOf(3, 3000))
			}
			counts[s.acquire(t, dstN(i)).Number()]++
		}
		chiSquare(t, counts, first)
	}
}

// That the statistic is sharp enough: it rejects the choice of the next free port from a random one on.
func TestChiSquareRejectsTheNextFreePort(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	counts := make([]int, 20)
	for range 3000 {
		if i := rng.IntN(21); i < 20 {
			counts[i]++
		} else {
			counts[0]++
		}
	}
	stat, limit := chi(counts)
	require.Greater(t, stat, limit)
}
