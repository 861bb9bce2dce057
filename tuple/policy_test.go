package tuple_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

// seededPool makes p draw from a seed, which it logs.
func seededPool(t *testing.T, p *tuple.Pool, seed uint64) *tuple.Pool {
	p.SetRand(seeded(t, 90, seed).Uint64)
	return p
}

func TestConstrainedPickIsUniform(t *testing.T) {
	stride := alloc.MustParseSet("5003-5999/16")
	for seed, taken := range []int{0, 3, 50, 500, 900} {
		p := seededPool(t, &tuple.Pool{
			Sources: prefixes("192.0.2.1/32"), Ports: alloc.RangeSet(5000, 5999),
		}, uint64(seed))
		for range taken {
			acquire(t, p, web)
		}
		bins := map[uint16]int{}
		for port := range stride.All() {
			if !p.Contains(tuple.From(netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), port), web)) {
				bins[port] = len(bins)
			}
		}
		counts := make([]int, len(bins))
		for range scaled(20_000) {
			u := acquireFor(t, p, tuple.Request{Dst: web, Ports: stride})
			counts[bins[u.Src().Port()]]++
			require.True(t, p.Release(u))
		}
		if len(counts) > 1 {
			chiSquare(t, counts, fmt.Sprintf("%d taken", taken))
		}
	}
}

// sourceOf returns the source that a sticky policy chooses for an owner.
func sourceOf(t *testing.T, p *tuple.Pool, owner int) netip.Addr {
	u := acquireFor(t, p, tuple.Request{Dst: web, Owner: fmt.Sprint(owner)})
	require.True(t, p.Release(u))
	return u.Src().Addr()
}

func TestStickyOwnersStayWhenSourcesComeAndGo(t *testing.T) {
	const owners = 2000
	var list []string
	for i := range 10 {
		list = append(list, fmt.Sprintf("192.0.2.%d/32", i+1))
	}
	p := &tuple.Pool{Sources: prefixes(list...), Policy: tuple.StickyOwner}
	before := make([]netip.Addr, owners)
	for i := range before {
		before[i] = sourceOf(t, p, i)
	}
	added := netip.MustParseAddr("192.0.2.99")
	require.NoError(t, p.SetSources(sourceList(append(list, "192.0.2.99/32")...)...))
	moved := 0
	for i, was := range before {
		if is := sourceOf(t, p, i); is != was {
			require.Equal(t, added, is, "one moved to a source that was there before")
			moved++
		}
	}
	require.InDelta(t, owners/11, moved, owners/25) // some eight standard deviations

	gone := netip.MustParseAddr("192.0.2.1")
	require.NoError(t, p.SetSources(sourceList(list[1:]...)...))
	for i, was := range before {
		if was != gone {
			require.Equal(t, was, sourceOf(t, p, i), "one moved though its source is still there")
		}
	}
}

// A prefix gets a share in proportion to its addresses.
func TestStickyOwnersSpreadEvenlyOverAddresses(t *testing.T) {
	p := &tuple.Pool{Sources: prefixes("192.0.2.1/32", "198.18.0.0/28", "203.0.113.4/30"), Policy: tuple.StickyOwner}
	bins := map[netip.Addr]int{}
	counts := make([]int, 1+16+4)
	for i := range 21_000 {
		src := sourceOf(t, p, i)
		if _, ok := bins[src]; !ok {
			bins[src] = len(bins)
		}
		counts[bins[src]]++
	}
	chiSquare(t, counts, "owners by address")
}

func TestRandomIsUniformOverTheSourcesWithRoom(t *testing.T) {
	for seed, full := range []int{0, 10, 120, 250} {
		p := seededPool(t, &tuple.Pool{
			Sources: prefixes("10.0.0.0/24"), Ports: alloc.RangeSet(5000, 5000), Policy: tuple.Random,
		}, uint64(seed))
		for range full {
			acquire(t, p, web)
		}
		bins := map[netip.Addr]int{}
		counts := make([]int, 256-full)
		for range scaled(20_000) {
			u := acquire(t, p, web)
			if _, ok := bins[u.Src().Addr()]; !ok {
				bins[u.Src().Addr()] = len(bins)
			}
			counts[bins[u.Src().Addr()]]++
			require.True(t, p.Release(u))
		}
		chiSquare(t, counts, fmt.Sprintf("%d of 256 full", full))
	}
}

func TestRequestsDoNotAllocateInTheSteadyState(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for policy := tuple.RoundRobin; policy <= tuple.Random; policy++ {
		p := &tuple.Pool{Sources: prefixes("192.0.2.0/28"), Policy: policy}
		for range 300 {
			acquire(t, p, web)
		}
		for _, r := range []tuple.Request{
			{Dst: web},
			{Dst: web, Owner: "a"},
			{Dst: web, Src: netip.MustParseAddr("192.0.2.7")},
			{Dst: web, Ports: alloc.MustParseSet("1027-65535/16")},
		} {
			run := func() { require.True(t, p.Release(acquireFor(t, p, r))) }
			run()
			require.Zero(t, testing.AllocsPerRun(200, run), "policy %d, %+v", policy, r)
		}
	}
}

// Random chooses among the sources that have a port of the Request. Each of these is equally likely, wherever it lies.
func TestRandomIsUniformOverTheSourcesWithAPortThatIsAskedFor(t *testing.T) {
	p := seededPool(t, &tuple.Pool{Sources: prefixes("10.0.0.0/28", "10.0.1.0/30"), Policy: tuple.Random}, 7)
	asked := tuple.Request{Dst: web, Ports: alloc.RangeSet(5000, 5000)}
	require.NoError(t, p.SetSources(
		tuple.Source{Prefix: netip.MustParsePrefix("10.0.0.0/28")},
		tuple.Source{Prefix: netip.MustParsePrefix("10.0.1.0/30"), Ports: alloc.RangeSet(6000, 6009)}, // has none
		tuple.Source{Prefix: netip.MustParsePrefix("10.0.2.0/31")},
	))
	bins := map[netip.Addr]int{}
	for i := range 16 {
		src := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
		if i == 3 || i == 15 {
			bins[src] = len(bins)
		} else {
			require.True(t, p.Reserve(tuple.From(netip.AddrPortFrom(src, 5000), web)))
		}
	}
	bins[netip.MustParseAddr("10.0.2.0")], bins[netip.MustParseAddr("10.0.2.1")] = 2, 3
	counts := make([]int, 4)
	for range scaled(8000) {
		u := acquireFor(t, p, asked)
		i, ok := bins[u.Src().Addr()]
		require.True(t, ok, u)
		counts[i]++
		require.True(t, p.Release(u))
	}
	chiSquare(t, counts, "sources with the port")
}

func TestLeastUsedIsSoAmongTheSourcesWithAPortThatIsAskedFor(t *testing.T) {
	p := &tuple.Pool{Sources: prefixes("10.0.0.1/32", "10.0.0.2/32", "10.0.0.3/32"), Policy: tuple.LeastUsed}
	reserve := func(src string, port uint16) {
		require.True(t, p.Reserve(tuple.From(netip.AddrPortFrom(netip.MustParseAddr(src), port), web)))
	}
	reserve("10.0.0.1", 5000)
	for port := range uint16(10) {
		reserve("10.0.0.2", 6000+port)
	}
	for port := range uint16(3) {
		reserve("10.0.0.3", 6000+port)
	}
	r := tuple.Request{Dst: web, Ports: alloc.RangeSet(5000, 5000)}
	for _, want := range []string{"10.0.0.3", "10.0.0.2"} {
		require.Equal(t, want, acquireFor(t, p, r).Src().Addr().String())
	}
	_, err := p.TryAcquireFor(r)
	require.ErrorIs(t, err, tuple.ErrExhausted)
}
