package held_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/internal/held"
)

// A destination becomes large and small again between one acquire and the next, in each way there is.
func TestTurnSurvivesAChangeOfSize(t *testing.T) {
	const n = 8
	some := allow(span(3000, 3))
	excursions := map[string]func(s *side, last held.Hold){
		"none": func(*side, held.Hold) {},
		"more tuples": func(s *side, _ held.Hold) {
			for port := range uint16(7) {
				s.reserve(web, held.HoldOf(2, 4000+port))
			}
			for port := range uint16(7) {
				s.free(web, held.HoldOf(2, 4000+port))
			}
		},
		"a taken one": func(s *side, _ held.Hold) {
			s.take(web, held.HoldOf(3, 4000))
			s.free(web, held.HoldOf(3, 4000))
		},
		"one that is yielded": func(s *side, last held.Hold) {
			s.find(web).Yield(last, &s.rules)
			s.find(web).Reuse(last, &s.rules)
		},
		"some ports, and none is free": func(s *side, _ held.Hold) {
			a := s.ask(web)
			a.Ports = allow([]uint16{9})
			_, ok := s.find(web).Acquire(a, &s.rules)
			require.False(t, ok)
		},
		"some ports": func(s *side, last held.Hold) { // which is a turn
			a := s.ask(web)
			a.Ports = some
			h, ok := s.find(web).Acquire(a, &s.rules)
			require.True(t, ok)
			require.Equal(t, (last.Number()+1)%n, h.Number())
			for range n - 1 {
				h := s.acquire(t, web)
				s.free(web, h)
			}
			s.free(web, h)
		},
	}
	for name, excursion := range excursions {
		for _, kept := range []int{1, 2, 3, 5} {
			t.Run(fmt.Sprintf("%s/kept=%d", name, kept), func(t *testing.T) {
				s := newSide(held.RoundRobin, 3, append(span(3000, 500), span(4000, 500)...), "192.0.2.0/29")
				var list []held.Hold
				for i := range 4 * n {
					h := s.acquire(t, web)
					if i > 0 {
						require.Equal(t, (list[len(list)-1].Number()+1)%n, h.Number(), "acquire %d", i)
					}
					list = append(list, h)
					excursion(s, h)
					s.check(t)
					for len(list) > kept {
						s.free(web, list[0])
						list = list[1:]
					}
					s.check(t)
				}
			})
		}
	}
}

// A cell that is free may say whose turn it is. A tuple that is reserved then lies there, and the turn elsewhere.
func TestTurnSurvivesAReserve(t *testing.T) {
	for kept := range 3 {
		s := newSide(held.RoundRobin, 3, span(3000, 50), "192.0.2.0/29")
		list := []held.Hold{s.acquire(t, web)}
		for range kept {
			list = append(list, s.acquire(t, web))
		}
		last := list[len(list)-1].Number()
		other := held.HoldOf((last+5)%8, 3007)
		if kept > 0 {
			s.free(web, list[kept])
		}
		s.reserve(web, other)
		s.check(t)
		require.Equal(t, (last+1)%8, s.acquire(t, web).Number(), "%d kept", kept)
		s.check(t)
	}
}

func TestNewTuplesGoToTheNextSourceWithAFreePort(t *testing.T) {
	s := newSide(held.RoundRobin, 3, span(3000, 5), "192.0.2.0/29")
	first := s.acquire(t, web)
	for i := range uint64(3) {
		for _, port := range span(3000, 5) {
			s.reserve(web, held.HoldOf((first.Number()+1+i)%8, port))
		}
	}
	require.Equal(t, (first.Number()+4)%8, s.acquire(t, web).Number())
	s.check(t)
}

// choices returns which address each of n destinations, or each of n owners, falls to.
func choices(t *testing.T, policy held.Policy, seed uint64, is6 bool, prefixes ...string) map[int]string {
	s := newSide(policy, seed, span(3000, 9), prefixes...)
	list := map[int]string{}
	for i := range 2000 {
		dst := dstN(i)
		switch {
		case policy == held.StickyOwner && is6:
			dst = web6
		case policy == held.StickyOwner:
			dst = web
		case is6:
			dst = dst6N(i)
		}
		a := s.ask(dst)
		a.Owner = fmt.Sprint("owner ", i)
		h, ok := s.find(dst).Acquire(a, &s.rules)
		require.True(t, ok)
		list[i] = s.rules.Sources(a.Key).At(h.Number()).Netip().String()
		s.free(dst, h)
	}
	return list
}

var stickyPolicies = []held.Policy{held.StickyDestination, held.StickyOwner}

func TestSameSeedGivesTheSameChoices(t *testing.T) {
	for _, policy := range stickyPolicies {
		a := choices(t, policy, 1, false, "192.0.2.0/28", "192.0.2.64/26")
		b := choices(t, policy, 2, false, "192.0.2.0/28", "192.0.2.64/26") // other random numbers, the same Seed
		require.True(t, maps.Equal(a, b), "policy %d", policy)
	}
}

func TestOnlyWhatFellToAPrefixMovesWhenItGoes(t *testing.T) {
	for is6, all := range map[bool][]string{
		false: {"192.0.2.0/28", "192.0.2.32/30", "192.0.2.64/26", "192.0.2.200/32"},
		true:  {"2001:db8::/64", "2001:db8:0:1::/64", "2001:db8:0:2::/64"},
	} {
		for _, policy := range stickyPolicies {
			before := choices(t, policy, 1, is6, all...)
			for i := range all {
				after := choices(t, policy, 1, is6, slices.Delete(slices.Clone(all), i, i+1)...)
				gone := choices(t, policy, 1, is6, all[i]) // where those go that fall to it
				moved := 0
				for what, src := range before {
					if after[what] != src {
						require.Equal(t, gone[what], src, "%d moves from a prefix that stays", what)
						moved++
					}
				}
				require.Positive(t, moved+len(after)/200, "nothing fell to %s", all[i])
			}
		}
	}
}

func TestStickyChoicesAreUniformOverTheAddresses(t *testing.T) {
	for _, policy := range stickyPolicies {
		index, counts := map[string]int{}, make([]int, 16+4+1+8)
		prefixes := []string{"192.0.2.0/28", "192.0.2.32/30", "192.0.2.77/32", "192.0.2.80/29"}
		for _, src := range choices(t, policy, 1, false, prefixes...) {
			if _, ok := index[src]; !ok {
				index[src] = len(index)
			}
			counts[index[src]]++
		}
		chiSquare(t, counts, fmt.Sprint("policy ", policy))
	}
}

func TestHalfOfTheChoicesStayWhenAPrefixGrowsByABit(t *testing.T) {
	before := choices(t, held.StickyDestination, 1, false, "192.0.2.0/28")
	stay := 0
	for what, src := range choices(t, held.StickyDestination, 1, false, "192.0.2.0/27") {
		if before[what] == src {
			stay++
		}
	}
	require.InDelta(t, 1000, stay, 120)
}

// Other destinations, and what is held, do not matter. A source that is full does, until it has a free port again.
func TestStickyDestinationGoesBackToItsSource(t *testing.T) {
	s := newSide(held.StickyDestination, 1, span(3000, 6), "192.0.2.0/29")
	for i := range 50 {
		first := s.acquire(t, dstN(i))
		var list []held.Hold
		for range 5 {
			h := s.acquire(t, dstN(i))
			require.Equal(t, first.Number(), h.Number())
			list = append(list, h)
		}
		other := s.acquire(t, dstN(i))
		require.NotEqual(t, first.Number(), other.Number(), "it is full")
		s.free(dstN(i), list[2])
		require.Equal(t, list[2], s.acquire(t, dstN(i)))
		s.check(t)
	}
}
