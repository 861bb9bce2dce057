package tuple_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/tuple"
)

func TestSizesAreThoseTheDocsPromise(t *testing.T) {
	require.EqualValues(t, 40, unsafe.Sizeof(tuple.Tuple{}))
	require.EqualValues(t, 40, unsafe.Sizeof(tuple.Key{}))
}

// A cache line that two cores write in turn costs as much as the whole rest of an operation.
func TestShardWritesToOneCacheLineOfItsOwn(t *testing.T) {
	require.Zero(t, tuple.ShardSize%64, "two shards share a line")
	require.Zero(t, tuple.ShardsInAState)
	require.Zero(t, tuple.ShardWrite%64)
	require.LessOrEqual(t, tuple.ShardReadEnd, tuple.ShardWrite)
	require.Less(t, tuple.ShardCooldown-tuple.ShardWrite, uintptr(64), "what says whether something is retired")
}

func TestFromKeepsAddressesAndPorts(t *testing.T) {
	for _, ends := range [][2]string{
		{"192.0.2.1:49152", "198.51.100.7:443"},
		{"0.0.0.0:1", "198.51.100.7:65535"},
		{"[2001:db8::1]:49152", "[2001:db8::2]:443"},
		{"[::]:65535", "[::1]:1"},
		{"192.0.2.1:0", "0.0.0.0:0"},
	} {
		src, dst := ap(ends[0]), ap(ends[1])
		u := tuple.From(src, dst)
		require.Equal(t, src, u.Src())
		require.Equal(t, dst, u.Dst())
		require.Equal(t, tuple.From(dst, src), u.Reverse())
		require.Equal(t, u, u.Reverse().Reverse())
		require.Equal(t, tuple.KeyFrom(src.Addr(), dst), u.Key())
		require.Equal(t, src.Addr(), u.Key().Src())
		require.Equal(t, dst, u.Key().Dst())
		require.Equal(t, u, u.Key().Tuple(src.Port()))
	}
}

func TestFromUnmapsAndDropsZones(t *testing.T) {
	mapped := tuple.From(ap("[::ffff:192.0.2.1]:49152"), ap("[::ffff:198.51.100.7]:443"))
	require.Equal(t, tuple.From(ap("192.0.2.1:49152"), web), mapped)
	require.True(t, mapped.Src().Addr().Is4())
	require.Equal(t, mapped.Key(),
		tuple.KeyFrom(netip.MustParseAddr("::ffff:192.0.2.1"), ap("[::ffff:198.51.100.7]:443")))

	zoned := tuple.From(ap("[fe80::1%eth0]:1"), ap("[fe80::2%eth1]:2"))
	require.Equal(t, tuple.From(ap("[fe80::1]:1"), ap("[fe80::2]:2")), zoned)
	require.Empty(t, zoned.Dst().Addr().Zone())
	require.Equal(t, zoned.Key(), tuple.KeyFrom(netip.MustParseAddr("fe80::1%a"), ap("[fe80::2%b]:2")))

	zonedAndMapped := netip.AddrPortFrom(netip.MustParseAddr("::ffff:192.0.2.1").WithZone("eth0"), 49152)
	require.Equal(t, ap("192.0.2.1:49152"), tuple.From(zonedAndMapped, web).Src())
}

func TestIsValidWantsOneFamilyAPlaceToGoAndPorts(t *testing.T) {
	for _, test := range []struct {
		src, dst string
		want     bool
	}{
		{"192.0.2.1:49152", "198.51.100.7:443", true},
		{"0.0.0.0:49152", "198.51.100.7:443", true},
		{"[::]:49152", "[2001:db8::2]:443", true},
		{"[::ffff:192.0.2.1]:49152", "198.51.100.7:443", true},
		{"[2001:db8::1]:49152", "198.51.100.7:443", false},
		{"192.0.2.1:49152", "[2001:db8::2]:443", false},
		{"[::]:49152", "198.51.100.7:443", false},
		{"192.0.2.1:0", "198.51.100.7:443", false},
		{"192.0.2.1:49152", "198.51.100.7:0", false},
		{"192.0.2.1:49152", "0.0.0.0:443", false},
		{"192.0.2.1:49152", "[::ffff:0.0.0.0]:443", false},
		{"[2001:db8::1]:49152", "[::]:443", false},
	} {
		require.Equal(t, test.want, tuple.From(ap(test.src), ap(test.dst)).IsValid(), "%s->%s", test.src, test.dst)
	}
	require.False(t, tuple.From(netip.AddrPort{}, web).IsValid())
	require.False(t, tuple.From(web, netip.AddrPort{}).IsValid())
}

func TestZeroValuesNameNothing(t *testing.T) {
	require.False(t, tuple.Tuple{}.IsValid())
	require.Equal(t, tuple.Tuple{}, tuple.From(netip.AddrPort{}, netip.AddrPort{}))
	require.Equal(t, tuple.Key{}, tuple.KeyFrom(netip.Addr{}, netip.AddrPort{}))
	require.Equal(t, tuple.Key{}, tuple.Tuple{}.Key())
	require.Equal(t, tuple.Tuple{}, tuple.Tuple{}.Reverse())
	require.False(t, tuple.Key{}.Tuple(49152).IsValid())
	require.Equal(t, "invalid Tuple", tuple.Tuple{}.String())
	require.Equal(t, "invalid Key", tuple.Key{}.String())
}

func TestCompareIsATotalOrderThatAgreesWithEquality(t *testing.T) {
	rng := seeded(t, 2, 1)
	all := make([]tuple.Tuple, 150)
	for i := range all {
		all[i] = randomTuple(rng)
	}
	all = append(all, tuple.Tuple{}, all[0])
	for _, a := range all {
		for _, b := range all {
			require.Equal(t, a == b, a.Compare(b) == 0, "%v and %v", a, b)
			require.Equal(t, a.Compare(b), -b.Compare(a), "%v and %v", a, b)
		}
	}
	slices.SortFunc(all, tuple.Tuple.Compare)
	for i := range all { // transitive: the sorted order must hold for all pairs
		for j := i + 1; j < len(all); j++ {
			require.LessOrEqual(t, all[i].Compare(all[j]), 0, "%v and %v", all[i], all[j])
		}
	}
}

func TestCompareLooksAtSourceThenDestination(t *testing.T) {
	ascending := []string{
		"9.0.0.1:80->10.0.0.1:443", "10.0.0.1:9->10.0.0.1:443", "10.0.0.1:10->9.0.0.1:443", "10.0.0.1:10->10.0.0.1:80",
		"10.0.0.1:10->10.0.0.1:443", "[::1]:1->[::1]:1",
	}
	for i := 1; i < len(ascending); i++ {
		require.Equal(t, -1, tuple.MustParse(ascending[i-1]).Compare(tuple.MustParse(ascending[i])), "%s", ascending[i])
	}
}

func TestTuplesAndKeysServeAsMapKeys(t *testing.T) {
	byTuple, byKey := map[tuple.Tuple]int{}, map[tuple.Key]int{}
	for port := range uint16(100) {
		a := tuple.From(netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), port), web)
		src := netip.AddrPortFrom(netip.MustParseAddr("::ffff:192.0.2.1"), port)
		b := tuple.From(src, ap("[::ffff:198.51.100.7]:443"))
		byTuple[a]++
		byTuple[b]++
		byKey[a.Key()]++
		byKey[b.Key()]++
	}
	require.Len(t, byTuple, 100)
	require.Len(t, byKey, 1)
}

// randomTuple returns a tuple of one family, or of both. It uses few different numbers, so that any two tuples have
// much in common.
func randomTuple(rng *rand.Rand) tuple.Tuple {
	end := func() netip.AddrPort {
		var raw [16]byte
		switch rng.IntN(3) {
		case 0:
			raw[10], raw[11] = 0xff, 0xff
		case 1:
			raw[0] = byte(rng.IntN(2)) * 0x20
		}
		raw[12], raw[15] = byte(rng.IntN(2)), byte(rng.IntN(3))
		return netip.AddrPortFrom(netip.AddrFrom16(raw), uint16(rng.IntN(3))*0x7fff)
	}
	return tuple.From(end(), end())
}
