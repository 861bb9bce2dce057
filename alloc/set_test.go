package alloc_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/alloc"
)

// ports is a slow and obviously correct Set: it says for each number whether it is in the set.
type ports [1 << 16]bool

func (p *ports) where(keep func(port int) bool) *ports {
	var q ports
	for port := 1; port < len(p); port++ {
		q[port] = keep(port)
	}
	return &q
}

// requireSame compares all that the methods of s return with want.
func requireSame(t *testing.T, want *ports, s alloc.Set, what string) {
	t.Helper()
	var all []uint16
	for port, in := range want {
		if in {
			all = append(all, uint16(port))
		}
		if s.Contains(uint16(port)) != in {
			require.Equal(t, in, s.Contains(uint16(port)), "%s: port %d", what, port)
		}
	}
	require.Equal(t, len(all), s.Len(), what)
	require.True(t, slices.Equal(all, slices.Collect(s.All())), "%s: All is not the ports in ascending order", what)
}

// randomSet returns a few ranges with holes, or the zero Set.
func randomSet(rng *rand.Rand) (alloc.Set, *ports) {
	text, want := "", new(ports)
	for range rng.IntN(5) {
		first := 1 + rng.IntN(65535)
		last := min(65535, first+rng.IntN(1<<rng.IntN(16)))
		text += fmt.Sprintf("%d-%d,", first, last)
		for port := first; port <= last; port++ {
			want[port] = true
		}
	}
	if text == "" {
		return alloc.Set{}, want
	}
	for range rng.IntN(4) {
		hole := 1 + rng.IntN(65535)
		text += fmt.Sprintf("!%d,", hole)
		want[hole] = false
	}
	return alloc.MustParseSet(text[:len(text)-1]), want
}

func TestTheAlgebraOfSetsIsThatOfTheirPorts(t *testing.T) {
	rounds := 100
	if testing.Short() {
		rounds = 10
	}
	t.Log("seed: rand.NewPCG(1, 2)")
	rng := rand.New(rand.NewPCG(1, 2))
	for range rounds {
		s, a := randomSet(rng)
		u, b := randomSet(rng)
		requireSame(t, a.where(func(port int) bool { return a[port] || b[port] }), s.Union(u), "Union")
		requireSame(t, a.where(func(port int) bool { return a[port] && b[port] }), s.Intersect(u), "Intersect")
		requireSame(t, a.where(func(port int) bool { return a[port] && !b[port] }), s.Difference(u), "Difference")
		// The operands did not change, and a change to a copy does not change the original.
		clone := s
		require.NoError(t, clone.UnmarshalText([]byte("1-9")))
		requireSame(t, a, s, "the first operand")
		requireSame(t, b, u, "the second operand")
	}
}

func TestARangeHoldsItsEndsAndNeverPort0(t *testing.T) {
	for _, c := range []struct{ first, last uint16 }{
		{1, 1},
		{80, 80},
		{63, 64},
		{64, 127},
		{1024, 65535},
		{1, 65535},
		{65535, 65535},
		{0, 0},
		{0, 5},
		{0, 65535}, // without port 0
		{2, 1},
		{65535, 1},
		{65535, 0},
		{1, 0}, // first is greater than last
	} {
		want := new(ports).where(func(port int) bool { return int(c.first) <= port && port <= int(c.last) })
		requireSame(t, want, alloc.RangeSet(c.first, c.last), fmt.Sprint(c))
	}
}

func TestOnlyTheZeroSetIsZero(t *testing.T) {
	var zero alloc.Set
	require.True(t, zero.IsZero())
	requireSame(t, new(ports), zero, "zero")
	require.Empty(t, zero.String())
	some := alloc.RangeSet(1, 9)
	for name, s := range map[string]alloc.Set{
		"reversed":   alloc.RangeSet(2, 1),
		"difference": some.Difference(some),
		"disjoint":   some.Intersect(alloc.RangeSet(10, 20)),
		"zero+zero":  zero.Union(zero),
		"zero*some":  zero.Intersect(some),
		"some*zero":  some.Intersect(zero),
		"zero-some":  zero.Difference(some),
		"slice":      zero.Slice(0, 1),
		"no slice":   some.Slice(3, 3),
	} {
		require.False(t, s.IsZero(), name)
		requireSame(t, new(ports), s, name)
	}
	require.Equal(t, "1-9", zero.Union(some).String())
	require.Equal(t, "1-9", some.Union(zero).String())
	require.Equal(t, "1-9", some.Difference(zero).String())
}

func TestSlicesShareASetOutEvenly(t *testing.T) {
	for _, shape := range shapes {
		for _, n := range []int{1, 2, 3, 7, 64, 100, 1000} {
			if n > 10 && (testing.Short() || n*shape.set.Len() > 10_000_000) {
				continue
			}
			var joined []uint16
			for i := range n {
				slice := shape.set.Slice(i, n)
				size := slice.Len() - shape.set.Len()/n
				require.True(t, size == 0 || size == 1, "%s: slice %d of %d has %d ports of %d",
					shape.name, i, n, slice.Len(), shape.set.Len())
				require.False(t, slice.IsZero())
				joined = slices.AppendSeq(joined, slice.All())
			}
			// Joined in order, the slices are the set in ascending order. So they are disjoint, and each has ports that
			// follow one another in the set.
			require.True(t, slices.Equal(slices.Collect(shape.set.All()), joined), "%s in %d slices", shape.name, n)
		}
	}
}

func TestThereIsNoSliceOutOfRange(t *testing.T) {
	s := alloc.RangeSet(1024, 65535)
	for _, c := range [][2]int{
		{-1, 3},
		{3, 3},
		{4, 3},
		{0, 0},
		{1, 0},
		{0, -1},
		{-1, -1},
		{-2, -1},
		{math.MinInt, 3},
		{math.MaxInt, 3},
		{math.MaxInt, math.MaxInt},
		{0, math.MinInt},
	} {
		slice := s.Slice(c[0], c[1])
		require.Zero(t, slice.Len(), "Slice%v", c)
		require.False(t, slice.IsZero(), "Slice%v would mean: not set", c)
	}
}

// If there are more slices than ports, some are empty, and the others have one port each.
func TestSlicesShareASetOutEvenlyHoweverManyThereAre(t *testing.T) {
	s := alloc.RangeSet(1, 65535)
	for _, n := range []int{65535, 100_000, math.MaxInt32, math.MaxInt} {
		for _, i := range []int{0, 1, n / 3, n / 2, n - 2, n - 1} {
			require.LessOrEqual(t, s.Slice(i, n).Len(), 1, "slice %d of %d", i, n)
		}
		require.True(t, s.Slice(n-1, n).Contains(65535), "the last of %d slices", n)
	}
	require.Equal(t, "3", s.Slice(2, 65535).String())
	n := math.MaxInt
	last := alloc.RangeSet(7, 7).Slice(n-1, n)
	require.Equal(t, "7", last.String(), "the last of %d slices of one port", n)
}

func TestAllStopsWhenToldTo(t *testing.T) {
	var got []uint16
	for port := range alloc.MustParseSet("5-6,100-65535").All() {
		got = append(got, port)
		if len(got) == 3 {
			break
		}
	}
	require.Equal(t, []uint16{5, 6, 100}, got)
}

// Several goroutines may ask for the allocator's table of a Set at once. It is built on first use.
func TestManyCanStartFromOneSetAtOnce(t *testing.T) {
	rounds := 50
	if testing.Short() {
		rounds = 5
	}
	for range rounds {
		set := alloc.RangeSet(1024, 65535).Difference(alloc.RangeSet(8080, 8080))
		var wg sync.WaitGroup
		for range 8 {
			own := set // copies share the table
			wg.Go(func() {
				p := alloc.New(own)
				if _, ok := p.AcquireIn(own); !ok || p.Free() != own.Len()-1 {
					t.Errorf("%d free of %d", p.Free(), own.Len())
				}
			})
			wg.Go(func() {
				if text := own.Union(own).String(); text != "1024-8079,8081-65535" || !own.Contains(1024) {
					t.Errorf("the set is %s", text)
				}
			})
		}
		wg.Wait()
	}
}

func TestEqualSetsHaveTheSamePorts(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 1))
	for range 200 {
		s, inS := randomSet(rng)
		u, inU := randomSet(rng)
		again := s.Union(s)
		require.True(t, s.Equal(s) && s.Equal(again) && again.Equal(s))
		require.Equal(t, *inS == *inU, s.Equal(u))
		require.False(t, s.Len() > 0 && s.Equal(s.Slice(0, 2)))
	}
	empty := alloc.RangeSet(2, 1)
	require.True(t, empty.Equal(alloc.Set{}) && alloc.Set{}.Equal(empty) && alloc.Set{}.Equal(alloc.Set{}))
	require.False(t, empty.Equal(alloc.RangeSet(1, 1)) || alloc.RangeSet(1, 2).Equal(alloc.RangeSet(2, 3)))
}
