package tuple_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

func TestSourcesTakeTurns(t *testing.T) {
	p := &tuple.Pool{Sources: prefixes("192.0.2.0/29", "203.0.113.5/32", "2001:db8::1/128")}
	order := map[netip.Addr]int{}
	var round []netip.Addr
	for i := range 9 * 50 {
		src := acquire(t, p, web).Src().Addr()
		require.True(t, src.Is4())
		if i < 9 {
			require.NotContains(t, order, src, "before all had their turn")
			order[src] = i
			round = append(round, src)
		}
		require.Equal(t, round[i%9], src)
	}
	require.NoError(t, p.Check())
}

func TestReleasesDoNotChangeWhoseTurnItIs(t *testing.T) {
	p := &tuple.Pool{Sources: prefixes("192.0.2.0/30")}
	keep := acquire(t, p, web) // else the destination would be forgotten
	rng := seeded(t, 20, 1)
	last := keep.Src().Addr()
	var held []tuple.Tuple
	for range 500 {
		u := acquire(t, p, web)
		next := last.Next()
		if !netip.MustParsePrefix("192.0.2.0/30").Contains(next) {
			next = netip.MustParseAddr("192.0.2.0")
		}
		require.Equal(t, next, u.Src().Addr())
		last = next
		held = append(held, u)
		if rng.IntN(2) == 0 {
			i := rng.IntN(len(held))
			require.True(t, p.Release(held[i]))
			held[i] = held[len(held)-1]
			held = held[:len(held)-1]
		}
	}
}

func TestShortLivedDestinationsUseAllSources(t *testing.T) {
	p := &tuple.Pool{Sources: prefixes("192.0.2.0/30")}
	counts := map[netip.Addr]int{}
	for i := range 4000 {
		u := acquire(t, p, dstN(i))
		counts[u.Src().Addr()]++
		require.True(t, p.Release(u))
	}
	require.Len(t, counts, 4)
	for a, n := range counts {
		require.InDelta(t, 1000, n, 250, "%v", a) // 9 standard deviations
	}
}

func TestFullSourceIsSkipped(t *testing.T) {
	p := &tuple.Pool{Sources: prefixes("192.0.2.0/30"), Ports: alloc.RangeSet(5000, 5004)}
	full := netip.MustParseAddr("192.0.2.2")
	for port := range uint16(5) {
		require.True(t, p.Reserve(tuple.KeyFrom(full, web).Tuple(5000+port)))
	}
	counts := map[netip.Addr]int{}
	for range 15 {
		counts[acquire(t, p, web).Src().Addr()]++
	}
	require.Len(t, counts, 3)
	require.NotContains(t, counts, full)
	_, err := p.TryAcquire(web)
	require.ErrorIs(t, err, tuple.ErrExhausted)
	require.NoError(t, p.Check())
}

// An acquire finds the only free tuple, wherever it is and whichever source is next.
func TestOneFreePortAmongManyFullSourcesIsFound(t *testing.T) {
	for _, test := range []struct {
		sources []string
		ports   int
	}{
		{[]string{"192.0.2.0/32", "192.0.2.3/32"}, 1},
		{[]string{"192.0.2.0/26"}, 2},                       // one word
		{[]string{"192.0.2.0/26", "192.0.2.64/32"}, 1},      // and one bit
		{[]string{"192.0.0.0/24", "192.0.2.0/25"}, 3},       // many words
		{[]string{"10.0.0.0/23", "192.0.2.200/31"}, 1},      // a last word of two
		{[]string{"10.0.0.7/32", "10.0.1.0/27"}, 70},        // bits
		{[]string{"2001:db8::/120", "2001:db8:1::/127"}, 1}, // the other family
	} {
		t.Run(fmt.Sprintf("sources=%v/ports=%d", test.sources, test.ports), func(t *testing.T) {
			rng := seeded(t, 21, uint64(test.ports))
			p := &tuple.Pool{Sources: prefixes(test.sources...), Ports: setOf(portList(5000, test.ports, 2))}
			dst := web
			if p.Sources[0].Addr().Is6() {
				dst = web6
			}
			all := fill(t, p, dst)
			capacity := 0
			for _, prefix := range p.Sources {
				capacity += test.ports << (prefix.Addr().BitLen() - prefix.Bits())
			}
			require.Len(t, all, capacity)
			require.NoError(t, p.Check())
			for _, i := range rng.Perm(len(all))[:min(len(all), 200)] {
				require.True(t, p.Release(all[i]))
				require.Equal(t, all[i], acquire(t, p, dst))
				_, err := p.TryAcquire(dst)
				require.ErrorIs(t, err, tuple.ErrExhausted)
			}
			require.NoError(t, p.Check())
			for i, u := range all {
				require.True(t, p.Release(u), "%d: %v", i, u)
			}
			require.Zero(t, p.Stats())
		})
	}
}

func TestOverlappingPrefixesAreCountedOnce(t *testing.T) {
	p := &tuple.Pool{
		Sources: prefixes(
			"192.0.2.4/30", "192.0.2.5/32", "192.0.2.0/29", "192.0.2.0/32",
			"192.0.2.7/32", "::ffff:192.0.2.0/126", "192.0.2.8/32",
		),
		Ports: alloc.RangeSet(5000, 5000),
	}
	require.Len(t, fill(t, p, web), 9)
}

// An address past the first 2^32 of a prefix must not get a number of another prefix.
func TestWidePrefixHandsOutItsFirst32Bits(t *testing.T) {
	p := &tuple.Pool{
		Sources: prefixes("2001:db8::/127", "2001:db8:1::/64", "2001:db8:2::/48"),
		Ports:   alloc.RangeSet(5000, 5000),
	}
	for s, want := range map[string]bool{
		"2001:db8::1":                      true,
		"2001:db8::2":                      false,
		"2001:db8:1::":                     true,
		"2001:db8:1::ffff:ffff":            true,
		"2001:db8:1::1:0:0":                false,
		"2001:db8:1:0:ffff:ffff:ffff:ffff": false,
		"2001:db8:1:0:ffff:ffff:ffff:fffe": false,
		"2001:db8:1:1::":                   false,
		"2001:db8:2::ffff":                 true,
		"2001:db8:2:1::":                   false,
		"2001:db8:2:ffff:0:ffff:ffff:ffff": false,
		"2001:db8:2::1:0:0":                false,
		"2001:db8:2:0:ffff:ffff:ffff:ffff": false,
		"2001:db8:2::ffff:ffff":            true,
		"2001:db8:3::":                     false,
		"2001:db8:0:ffff::":                false,
	} {
		require.Equal(t, want, p.Reserve(tuple.KeyFrom(netip.MustParseAddr(s), web6).Tuple(5000)), s)
		require.NoError(t, p.Check(), s)
	}
	for range 1000 {
		acquire(t, p, web6)
	}
	require.NoError(t, p.Check())
}

// The numbers of sources have 48 bits, so 65,536 prefixes with 2^32 addresses use them up.
func TestManyWidePrefixes(t *testing.T) {
	p := &tuple.Pool{Ports: alloc.RangeSet(5000, 5000)}
	raw := netip.MustParseAddr("2001:db8::").As16()
	for i := range 1 << 16 {
		raw[6], raw[7] = byte(i>>8), byte(i)
		p.Sources = append(p.Sources, netip.PrefixFrom(netip.AddrFrom16(raw), 64))
	}
	more := append(p.Sources, netip.MustParsePrefix("2001:db9::/128"))
	seen := map[netip.Addr]bool{}
	for i := range 1000 {
		u := acquire(t, p, dst6N(i))
		seen[u.Src().Addr()] = true
		require.True(t, p.Contains(u))
	}
	require.Len(t, seen, 1000)
	last := p.Sources[len(p.Sources)-1].Addr().As16()
	last[12], last[13], last[14], last[15] = 255, 255, 255, 255
	require.True(t, p.Reserve(tuple.KeyFrom(netip.AddrFrom16(last), web6).Tuple(5000)))
	require.NoError(t, p.Check())

	_, err := (&tuple.Pool{Sources: more}).TryAcquire(web6)
	require.ErrorContains(t, err, "too many IPv6 addresses: want at most 65536 prefixes with 2^32 addresses or more: "+
		"65537 IPv6 prefixes")
}

func TestSourcesOfAWidePrefixAreSpreadOverAllOfIt(t *testing.T) {
	p := &tuple.Pool{Sources: prefixes("2001:db8::/64")}
	counts := make([]int, 16)
	for i := range 4000 {
		raw := acquire(t, p, dst6N(i)).Src().Addr().As16()
		require.Zero(t, raw[8]|raw[9]|raw[10]|raw[11])
		counts[raw[12]>>4]++
	}
	chiSquare(t, counts, "first bits of the source")
}

// A destination uses all sources evenly, also while tuples come and go.
func TestSourcesAreUsedEvenly(t *testing.T) {
	rng := seeded(t, 22, 1)
	p := &tuple.Pool{Sources: prefixes("192.0.2.0/28"), Ports: alloc.RangeSet(5000, 5099)}
	p.SetRand(rng.Uint64)
	counts := map[netip.Addr]int{}
	held := []tuple.Tuple{acquire(t, p, web)}
	for range 8000 {
		if len(held) < 2 || len(held) < 1200 && rng.IntN(3) > 0 {
			u := acquire(t, p, web)
			counts[u.Src().Addr()]++
			held = append(held, u)
			continue
		}
		i := 1 + rng.IntN(len(held)-1)
		require.True(t, p.Release(held[i]))
		held[i] = held[len(held)-1]
		held = held[:len(held)-1]
	}
	total := 0
	for _, n := range counts {
		total += n
	}
	require.Len(t, counts, 16)
	for a, n := range counts {
		require.InEpsilon(t, float64(total)/16, n, 0.02, "%v", a)
	}
}

// A free cell may still hold the number of the source used last, although that source is gone.
func TestSourcesMayBeReplacedTwiceWhileAFewTuplesAreHeld(t *testing.T) {
	p := &tuple.Pool{Sources: prefixes("192.0.2.0/30")}
	keep, gone := acquire(t, p, web), acquire(t, p, web)
	require.True(t, p.Release(gone))
	for _, list := range []string{"203.0.113.0/30", "198.51.100.0/30", "10.0.0.0/32"} {
		require.NoError(t, p.SetSources(tuple.Source{Prefix: netip.MustParsePrefix(list)}))
		require.True(t, p.Contains(keep))
		require.NoError(t, p.Check())
	}
}
