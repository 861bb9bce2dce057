package held_test

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/internal/held"
	"github.com/ephemera-go/ephemera/internal/ports"
)

var (
	ap   = netip.MustParseAddrPort
	web  = ap("198.51.100.7:443")
	web6 = ap("[2001:db8:f::7]:443")
)

func keyOf(dst netip.AddrPort) held.Key { return held.KeyOf(held.AddrFrom(dst.Addr()), dst.Port()) }

func dstN(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18 + byte(i>>16), byte(i >> 8), byte(i)}), 443)
}

func dst6N(i int) netip.AddrPort {
	a := netip.MustParseAddr("2001:db8:f::").As16()
	a[13], a[14], a[15] = byte(i>>16), byte(i>>8), byte(i)
	return netip.AddrPortFrom(netip.AddrFrom16(a), 443)
}

// span returns n ports from first on.
func span(first, n int) (list []uint16) {
	for i := range n {
		list = append(list, uint16(first+i))
	}
	return list
}

func allow(list []uint16) *ports.Allowed { return ports.Allow(slices.Values(list)) }

// side is a Table with its Rules, for tests that have one of each.
type side struct {
	held.Table
	rules held.Rules
}

// newSide has the prefixes as sources of their family, which must ascend, with the same ports.
func newSide(policy held.Policy, seed uint64, list []uint16, prefixes ...string) *side {
	s := &side{rules: held.NewRules(policy, rand.New(rand.NewPCG(seed, 0)).Uint64, &held.Seed{1, 2, 3})}
	s.rules = s.rules.With(sourcesOf(list, prefixes...))
	return s
}

func sourcesOf(list []uint16, prefixes ...string) (v4, v6 *held.Sources) {
	table := allow(list)
	v4, v6 = new(held.Sources), new(held.Sources)
	for _, text := range prefixes {
		if p := netip.MustParsePrefix(text); p.Addr().Is6() {
			v6.Add(p, table, false)
		} else {
			v4.Add(p, table, false)
		}
	}
	return v4, v6
}

// find returns the place of a destination.
func (s *side) find(dst netip.AddrPort) held.Place {
	key := keyOf(dst)
	return s.Find(key, key.Hash(s.rules.Hash))
}

// ask returns an Ask for anything towards a destination.
func (s *side) ask(dst netip.AddrPort) *held.Ask {
	key := keyOf(dst)
	return &held.Ask{Key: key, Hash: key.Hash(s.rules.Hash), Rand: s.rules.Rand()}
}

// acquire takes a tuple of which one must be free.
func (s *side) acquire(t testing.TB, dst netip.AddrPort) held.Hold {
	h, ok := s.find(dst).Acquire(s.ask(dst), &s.rules)
	if !ok {
		require.Fail(t, "nothing is free", "towards %v", dst)
	}
	return h
}

func (s *side) reserve(dst netip.AddrPort, h held.Hold) {
	key := keyOf(dst)
	s.find(dst).Reserve(key, key.Hash(s.rules.Hash), h, &s.rules)
}

func (s *side) take(dst netip.AddrPort, h held.Hold) {
	key := keyOf(dst)
	s.find(dst).Take(key, key.Hash(s.rules.Hash), h, &s.rules)
}

func (s *side) free(dst netip.AddrPort, h held.Hold) held.State { return s.find(dst).Free(h, &s.rules) }

func (s *side) check(t testing.TB) { require.NoError(t, s.Check(&s.rules)) }

// move goes over to other sources.
func (s *side) move(v4, v6 *held.Sources) {
	held4, held6 := make([]bool, s.rules.V4.DrainedBlocks()), make([]bool, s.rules.V6.DrainedBlocks())
	s.DrainedInUse(&s.rules, held4, held6)
	v4.Keep(&s.rules.V4, held4)
	v6.Keep(&s.rules.V6, held6)
	next := s.rules.With(v4, v6)
	s.Move(&s.rules, &next, func() {})
	s.rules = next
}

// chiSquare fails the test if counts, over equally likely bins, would come about less than once in a million times.
func chiSquare(t testing.TB, counts []int, what string) {
	t.Helper()
	if stat, limit := chi(counts); stat > limit {
		require.Fail(t, "not uniform", "%s: chi-square %.0f over %d bins, expected at most %.0f",
			what, stat, len(counts), limit)
	}
}

// chi returns Pearson's statistic, and what it exceeds with a probability of 10^-6, after Wilson and Hilferty.
func chi(counts []int) (stat, limit float64) {
	total := 0
	for _, n := range counts {
		total += n
	}
	want := float64(total) / float64(len(counts))
	for _, n := range counts {
		stat += (float64(n) - want) * (float64(n) - want) / want
	}
	k := float64(len(counts) - 1)
	root := 1 - 2/(9*k) + 4.753*math.Sqrt(2/(9*k))
	return stat, k * root * root * root
}
