package tuple_test

import (
	"context"
	"maps"
	"math"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/internal/liveheap"
	"github.com/ephemera-go/ephemera/tuple"
)

// requireAll requires that All yields each of these tuples once, and no other.
func requireAll(t require.TestingT, want map[tuple.Tuple]tuple.State, p *tuple.Pool) {
	got := map[tuple.Tuple]tuple.State{}
	n := 0
	for u, state := range p.All() {
		got[u] = state
		n++
	}
	require.Equal(t, want, got)
	require.Len(t, got, n, "each once")
}

// hold acquires or releases tuples towards dst until n are held.
func hold(t testing.TB, p *tuple.Pool, dst netip.AddrPort, held []tuple.Tuple, n int) []tuple.Tuple {
	t.Helper()
	for len(held) < n {
		held = append(held, acquire(t, p, dst))
	}
	for len(held) > n {
		require.True(t, p.Release(held[0]))
		held = held[1:]
	}
	require.NoError(t, p.Check())
	return held
}

// From a few tuples to many and back. The figure lies in a slot or in a structure of its own.
func TestHighWaterIsTheMostHeldAtOnceSinceNothingWas(t *testing.T) {
	for _, sources := range [][]netip.Prefix{nil, prefixes("192.0.2.0/31"), prefixes("192.0.2.0/29")} {
		for _, high := range []int{1, 2, 3, 4, 5, 254, 255, 256, 257, 3000} {
			for low := range min(high, 4) {
				p := &tuple.Pool{Sources: sources}
				held := hold(t, p, web, nil, high)
				want := high
				for _, n := range []int{low, 1, 2, 1, 3, 2, 4, 1, 5, 0} {
					if len(held) == 0 {
						want = 0
					}
					held = hold(t, p, web, held, n)
					want = max(want, n)
					if n == 0 {
						want = 0
					}
					require.Equal(t, want, p.Usage(web).HighWater, "up to %d, down to %d, then %d", high, low, n)
				}
			}
		}
	}
}

// Reserve fills cells in another order than an acquire.
func TestHighWaterIsRightWhateverTheOrder(t *testing.T) {
	for seed, sources := range [][]netip.Prefix{nil, prefixes("192.0.2.0/30"), prefixes("192.0.2.0/30")} {
		rng := seeded(t, 61, uint64(seed))
		p := &tuple.Pool{Sources: sources}
		var held []tuple.Tuple
		peak, most := 0, 3
		for i := range 30_000 {
			if i%1000 == 0 {
				most = 2 + rng.IntN(3)
				if seed == 2 && rng.IntN(3) == 0 {
					most = 300
				}
			}
			grow := i%1000 < 400 || len(held) < 2 && rng.IntN(20) > 0
			switch r := rng.IntN(5); {
			case r < 2 && len(held) < most && grow:
				held = append(held, acquire(t, p, web))
			case r < 4 && len(held) < most && grow:
				src := netip.IPv4Unspecified()
				if sources != nil {
					src = netip.AddrFrom4([4]byte{192, 0, 2, byte(rng.IntN(4))})
				}
				if u := tuple.KeyFrom(src, web).Tuple(uint16(2000 + rng.IntN(9000))); p.Reserve(u) {
					held = append(held, u)
				}
			case len(held) > 0:
				j := rng.IntN(len(held))
				require.True(t, p.Release(held[j]))
				held = slices.Delete(held, j, j+1)
			}
			if peak = max(peak, len(held)); len(held) == 0 {
				peak = 0
			}
			if got := p.Usage(web).HighWater; got != peak {
				require.Equal(t, peak, got, "after step %d", i)
			}
			if i%100 == 0 {
				require.NoError(t, p.Check())
			}
		}
	}
}

// A destination reuses the memory of another one, without its figures.
func TestHighWaterIsNotThatOfAnotherDestination(t *testing.T) {
	p := &tuple.Pool{}
	for i := range 20 {
		hold(t, p, dstN(i), hold(t, p, dstN(i), nil, 50), 1)
	}
	for i := range 20 {
		_, err := p.TryAcquireFor(tuple.Request{Dst: dst6N(i), Ports: alloc.RangeSet(5000, 5001)}) // makes a large one
		require.NoError(t, err)
		require.Equal(t, 1, p.Usage(dst6N(i)).HighWater)
	}
}

// A destination that once held more than 255 tuples stores that in a structure of its own, until it holds nothing.
func TestHighWaterTakesLittleMemoryOnceFewAreHeld(t *testing.T) {
	n := scaled(10_000)
	p := &tuple.Pool{}
	require.Zero(t, p.Stats())
	before := liveheap.Bytes()
	burst := make([]tuple.Tuple, 300)
	for i := range n {
		for j := range burst {
			burst[j] = acquire(t, p, dstN(i))
		}
		for _, u := range burst[2:] {
			p.Release(u)
		}
		p.Release(burst[0])
		acquire(t, p, dstN(i))
	}
	each := float64(liveheap.Bytes()-before) / float64(n)
	t.Logf("%.0f bytes a destination", each)
	require.Less(t, each, 512.0)
	for u := range p.Destinations() {
		require.Equal(t, 300, u.HighWater)
		require.Equal(t, 2, u.InUse)
	}
}

// The figure stays while sources come and go, although the numbers of the sources change.
func TestHighWaterOutlivesItsSources(t *testing.T) {
	p := &tuple.Pool{Sources: prefixes("192.0.2.0/30")}
	for i, high := range []int{2, 3, 200, 300} {
		hold(t, p, dstN(i), hold(t, p, dstN(i), nil, high), 1)
	}
	for _, list := range []string{"192.0.2.2/32", "203.0.113.0/28", "192.0.2.0/30"} {
		require.NoError(t, p.SetSources(
			tuple.Source{Prefix: netip.MustParsePrefix("10.0.0.1/32")},
			tuple.Source{Prefix: netip.MustParsePrefix(list)},
		))
		require.NoError(t, p.Check())
		for i, high := range []int{2, 3, 200, 300} {
			require.Equal(t, high, p.Usage(dstN(i)).HighWater)
		}
	}
	for i, high := range []int{2, 3, 200, 300} {
		acquire(t, p, dstN(i))
		acquire(t, p, dstN(i))
		require.Equal(t, max(3, high), p.Usage(dstN(i)).HighWater)
	}
	require.NoError(t, p.Check())
}

func TestHighWaterBeginsAnewThoughSomebodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &tuple.Pool{Sources: prefixes("192.0.2.0/32", "203.0.113.0/32"), Ports: alloc.RangeSet(5000, 5004)}
		held := fill(t, p, web)
		ctx, cancel := context.WithCancel(t.Context())
		go p.AcquireFor(ctx, tuple.Request{Dst: web, Src: held[0].Src().Addr()})
		synctest.Wait()
		require.Equal(t, 1, p.Usage(web).Waiting)
		require.NoError(t, p.SetSources(tuple.Source{Prefix: netip.MustParsePrefix("10.0.0.1/32")}))
		require.Equal(t, 10, p.Usage(web).HighWater)
		for _, u := range held {
			require.True(t, p.Release(u))
		}
		u := p.Usage(web)
		u.At = time.Time{}
		require.Equal(t, tuple.Usage{Dst: web, Waiting: 1, Free: 5}, u)
		acquire(t, p, web)
		require.Equal(t, 1, p.Usage(web).HighWater)
		require.NoError(t, p.Check())
		cancel()
		synctest.Wait()
		require.NoError(t, p.Check())
	})
}

func TestFreeIsWhatTheSourcesHaveNow(t *testing.T) {
	p := &tuple.Pool{Sources: prefixes("192.0.2.0/31", "2001:db8::/48"), Ports: alloc.RangeSet(5000, 5009)}
	require.Equal(t, 20, p.Usage(web).Free)
	require.Equal(t, int(min(uint64(10<<32), math.MaxInt)), p.Usage(web6).Free)
	few, many := hold(t, p, dstN(1), nil, 2), hold(t, p, dstN(2), nil, 12)
	require.Equal(t, 18, p.Usage(dstN(1)).Free)
	require.Equal(t, 8, p.Usage(dstN(2)).Free)

	keep := few[0].Src().Addr() // the other source is drained, and what it holds does not reduce Free
	ports := alloc.RangeSet(5000, 5019)
	require.NoError(t, p.SetSources(tuple.Source{Prefix: netip.PrefixFrom(keep, 32), Ports: ports}))
	for _, held := range [][]tuple.Tuple{few, many} {
		free := 20
		for _, u := range held {
			if u.Src().Addr() == keep {
				free--
			}
		}
		require.Equal(t, free, p.Usage(held[0].Dst()).Free)
		require.Len(t, fill(t, p, held[0].Dst()), free)
		require.Zero(t, p.Usage(held[0].Dst()).Free)
	}
	require.Zero(t, p.Usage(web6).Free)
	require.Zero(t, p.Usage(netip.AddrPort{}).Free)

	var wide []netip.Prefix
	for i := range 1 << 16 {
		a := netip.MustParseAddr("2001:db8::").As16()
		a[4], a[5] = byte(i>>8), byte(i)
		wide = append(wide, netip.PrefixFrom(netip.AddrFrom16(a), 64))
	}
	huge := &tuple.Pool{Sources: wide, Ports: alloc.RangeSet(1, 65535)}
	acquire(t, huge, web6)
	require.Equal(t, math.MaxInt, huge.Usage(web6).Free)
}

func TestDestinationsComeOnceEachAndMayChangeMeanwhile(t *testing.T) {
	p := &tuple.Pool{}
	held := map[netip.AddrPort]tuple.Tuple{}
	for i := range 1000 {
		held[dstN(i)] = acquire(t, p, dstN(i))
		held[dst6N(i)] = acquire(t, p, dst6N(i))
	}
	for u := range p.Destinations() {
		require.Equal(t, 1, u.InUse)
		require.True(t, p.Release(held[u.Dst]), "%v comes twice", u.Dst)
		for range 5 {
			acquire(t, p, u.Dst)
		}
		delete(held, u.Dst)
	}
	require.Empty(t, held)
	n := 0
	for range p.Destinations() {
		if n++; n == 10 {
			break
		}
	}
	require.Equal(t, 10, n)
	for range new(tuple.Pool).Destinations() {
		require.Fail(t, "an empty pool has a destination")
	}
}

func TestUsageIsThatOfTheScope(t *testing.T) {
	p := &tuple.Pool{Scope: func(netip.AddrPort) netip.AddrPort { return web }}
	acquire(t, p, dstN(1))
	acquire(t, p, dstN(2))
	require.Equal(t, web, p.Usage(dstN(3)).Dst)
	require.Equal(t, 2, p.Usage(dstN(3)).InUse)
}

// The order is total, so that two results can be compared.
func TestTopIsTheHeadOfTheSortedList(t *testing.T) {
	p := &tuple.Pool{}
	rng := seeded(t, 62, 0)
	held := map[netip.AddrPort]int{}
	for i := range 500 {
		dst := []netip.AddrPort{dstN(i), dst6N(i)}[rng.IntN(2)]
		held[dst] = 1 + rng.IntN(8)
		for j, u := range hold(t, p, dst, nil, held[dst]) {
			if j%2 == 0 {
				p.Retire(u, time.Hour)
			}
		}
	}
	sorted := slices.SortedFunc(maps.Keys(held), func(a, b netip.AddrPort) int {
		if held[a] != held[b] {
			return held[b] - held[a]
		}
		return a.Compare(b)
	})
	for _, k := range []int{-1, 0, 1, 2, 10, 499, 500, 501, math.MaxInt} {
		top := p.Top(k)
		require.Len(t, top, min(max(k, 0), 500))
		for i, u := range top {
			require.Equal(t, sorted[i], u.Dst)
			require.Equal(t, held[u.Dst], u.InUse+u.Retired)
		}
	}
	require.Empty(t, new(tuple.Pool).Top(3))
}

func TestForecastIsWhatIsLeftOverTheNetRate(t *testing.T) {
	at := time.Unix(1000, 0)
	look := func(free int, after time.Duration) tuple.Usage {
		return tuple.Usage{Dst: web, Free: free, At: at.Add(after)}
	}
	for _, test := range []struct {
		earlier, now tuple.Usage
		left         time.Duration
		ok           bool
	}{
		{look(1000, 0), look(900, time.Minute), 9 * time.Minute, true},
		{look(1000, 0), look(999, time.Second), 999 * time.Second, true},
		{look(1000, 0), look(1000, time.Minute), 0, false},
		{look(900, 0), look(1000, time.Minute), 0, false},
		{look(1000, 0), look(900, 0), 0, false},
		{look(1000, time.Minute), look(900, 0), 0, false},
		{look(1000, 0), look(0, time.Minute), 0, true},
		{look(0, 0), look(0, time.Minute), 0, true},
		{look(math.MaxInt, 0), look(math.MaxInt, time.Minute), 0, false},
		{look(math.MaxInt, 0), look(math.MaxInt-1, time.Minute), math.MaxInt64, true},
		{tuple.Usage{}, look(900, time.Minute), 0, false},
	} {
		left, ok := test.now.Forecast(test.earlier)
		require.Equal(t, test.ok, ok, "%v", test)
		require.Equal(t, test.left, left, "%v", test)
	}
}
