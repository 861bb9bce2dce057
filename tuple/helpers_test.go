package tuple_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

var (
	ap   = netip.MustParseAddrPort
	web  = ap("198.51.100.7:443")
	web6 = ap("[2001:db8:f::7]:443")
)

// prefixes parses a list of prefixes.
func prefixes(list ...string) []netip.Prefix {
	var parsed []netip.Prefix
	for _, s := range list {
		parsed = append(parsed, netip.MustParsePrefix(s))
	}
	return parsed
}

// portList returns n ports from first on, each stride after the one before it.
func portList(first, n, stride int) []uint16 {
	var list []uint16
	for i := range n {
		list = append(list, uint16(first+i*stride))
	}
	return list
}

func setOf(list []uint16) alloc.Set {
	var items []string
	for _, port := range list {
		items = append(items, fmt.Sprint(port))
	}
	return alloc.MustParseSet(strings.Join(items, ","))
}

// seeded returns a generator and logs its seed.
func seeded(t testing.TB, a, b uint64) *rand.Rand {
	t.Logf("seed: rand.NewPCG(%d, %d)", a, b)
	return rand.New(rand.NewPCG(a, b))
}

// scaled returns n, or much less in short mode.
func scaled(n int) int {
	if testing.Short() {
		return max(1, n/5)
	}
	return n
}

func dstN(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18 + byte(i>>16), byte(i >> 8), byte(i)}), 443)
}

func dst6N(i int) netip.AddrPort {
	a := netip.MustParseAddr("2001:db8:f::").As16()
	a[13], a[14], a[15] = byte(i>>16), byte(i>>8), byte(i)
	return netip.AddrPortFrom(netip.AddrFrom16(a), 443)
}

// acquire takes a tuple into use. It fails the test if none is free.
func acquire(t testing.TB, p *tuple.Pool, dst netip.AddrPort) tuple.Tuple {
	t.Helper()
	got, err := p.TryAcquire(dst)
	require.NoError(t, err)
	return got
}

// fill takes everything that is free towards dst.
func fill(t testing.TB, p *tuple.Pool, dst netip.AddrPort) []tuple.Tuple {
	t.Helper()
	var all []tuple.Tuple
	for {
		got, err := p.TryAcquire(dst)
		if err != nil {
			require.ErrorIs(t, err, tuple.ErrExhausted)
			return all
		}
		all = append(all, got)
	}
}

// chiSquare fails the test if counts over equally likely bins are as uneven as happens less than once in a million
// times.
func chiSquare(t testing.TB, counts []int, what string) {
	t.Helper()
	if stat, limit := chi(counts); stat > limit {
		require.Fail(t, "not uniform", "%s: chi-square %.0f over %d bins, expected at most %.0f",
			what, stat, len(counts), limit)
	}
}

// chi returns Pearson's statistic, and the limit that it exceeds with a probability of 10^-6, by the approximation of
// Wilson and Hilferty.
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
