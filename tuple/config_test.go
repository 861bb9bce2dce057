package tuple_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

func TestBadDestinationNamesItself(t *testing.T) {
	pools := map[string]*tuple.Pool{
		"zero":    {},
		"sources": {Sources: prefixes("192.0.2.1/32", "2001:db8::1/128")},
	}
	for name, p := range pools {
		for _, dst := range []netip.AddrPort{
			{},
			netip.AddrPortFrom(netip.Addr{}, 443), ap("0.0.0.0:0"), ap("0.0.0.0:443"), ap("[::]:443"),
			ap("[::ffff:0.0.0.0]:443"),
			ap("[::%eth0]:443"), ap("198.51.100.7:0"), ap("[2001:db8::1]:0"),
		} {
			_, tryErr := p.TryAcquire(dst)
			_, err := p.Acquire(t.Context(), dst)
			require.ErrorContains(t, tryErr, "tuple: acquire: the destination ", name)
			require.ErrorContains(t, tryErr, fmt.Sprintf(": want the address and port of a host: %v", dst), name)
			require.Equal(t, tryErr, err)
			require.NotErrorIs(t, err, tuple.ErrExhausted)
			bad := tuple.From(ap("192.0.2.1:49152"), dst)
			require.False(t, p.Reserve(bad) || p.Contains(bad) || p.Release(bad) || p.Retire(bad, time.Second))
		}
		require.Zero(t, p.Stats())
		require.NoError(t, p.Check())
	}
}

func TestBadSourcesNameThemselves(t *testing.T) {
	const (
		unspecified = "is not an address to send from: leave Sources empty to let the operating system pick one: "
		multicast   = "is multicast: want unicast addresses: "
		wide        = "is too wide: it contains multicast or IPv4-mapped addresses: "
	)
	for _, test := range []struct{ bad, want string }{
		{"", "is not a valid prefix: write a single address as 192.0.2.1/32: invalid Prefix"},
		{"0.0.0.0/0", unspecified + "0.0.0.0/0"},
		{"10.1.2.3/0", unspecified + "0.0.0.0/0"},
		{"0.0.0.0/32", unspecified + "0.0.0.0/32"},
		{"::ffff:0.0.0.0/96", unspecified + "0.0.0.0/0"},
		{"::/0", unspecified + "::/0"},
		{"::/128", unspecified + "::/128"},
		{"224.0.0.0/4", multicast + "224.0.0.0/4"},
		{"239.1.2.3/32", multicast + "239.1.2.3/32"},
		{"ff02::1/128", multicast + "ff02::1/128"},
		{"::ffff:224.0.0.1/128", multicast + "224.0.0.1/32"},
		{"128.0.0.0/1", wide + "128.0.0.0/1"},     // contains 224.0.0.0/4
		{"192.0.0.0/2", wide + "192.0.0.0/2"},     // the same
		{"f000::/4", wide + "f000::/4"},           // contains ff00::/8
		{"::fffe:0:0/95", wide + "::fffe:0:0/95"}, // contains ::ffff:0:0/96, which is IPv4
		{"::ffff:0:0/95", wide + "::fffe:0:0/95"},
	} {
		var prefix netip.Prefix
		if test.bad != "" {
			prefix = netip.MustParsePrefix(test.bad)
		}
		p := &tuple.Pool{Sources: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32"), prefix}}
		isBroken(t, p, "tuple: Pool.Sources[1]", test.want)
	}
}

func TestEmptyPortsSayHowToGetThemAll(t *testing.T) {
	isBroken(t, &tuple.Pool{Ports: alloc.RangeSet(2, 1)}, "tuple: Pool.Ports is a set without a port", "leave it zero")
	isBroken(t, &tuple.Pool{Ports: alloc.RangeSet(0, 0)}, "tuple: Pool.Ports is a set without a port", "leave it zero")
}

// isBroken requires that every acquire of p fails with these words, and that every other method finds nothing.
func isBroken(t *testing.T, p *tuple.Pool, words ...string) {
	t.Helper()
	for _, dst := range []netip.AddrPort{web, web6, {}} {
		_, tryErr := p.TryAcquire(dst)
		_, err := p.Acquire(context.Background(), dst)
		for _, word := range words {
			require.ErrorContains(t, tryErr, word)
			require.ErrorContains(t, err, word)
		}
		require.NotErrorIs(t, err, tuple.ErrExhausted)
	}
	for _, u := range []tuple.Tuple{{}, tuple.MustParse(texts[0]), tuple.MustParse(texts[2])} {
		require.False(t, p.Reserve(u) || p.Contains(u) || p.Release(u) || p.Retire(u, time.Second))
	}
	require.Zero(t, p.Stats())
	require.NoError(t, p.Check())
}

func TestFamilyWithoutASourceIsAnErrorThatSaysSo(t *testing.T) {
	for _, test := range []struct{ source, dst, family string }{
		{"192.0.2.1/32", "[2001:db8::7]:443", "IPv6"},
		{"::ffff:192.0.2.1/128", "[2001:db8::7]:443", "IPv6"},
		{"2001:db8::1/128", "198.51.100.7:443", "IPv4"},
		{"2001:db8::1/128", "[::ffff:198.51.100.7]:443", "IPv4"},
	} {
		p := &tuple.Pool{Sources: prefixes(test.source)}
		_, err := p.TryAcquire(ap(test.dst))
		require.EqualError(t, err, "tuple: no source: none of the Pool's sources is an "+test.family+" address")
		require.NotErrorIs(t, err, tuple.ErrExhausted)
		_, again := p.Acquire(t.Context(), ap(test.dst))
		require.Equal(t, err, again)
		require.False(t, p.Reserve(tuple.From(ap(test.dst), ap(test.dst))))
		require.Zero(t, p.Stats())
	}
}

func TestZeroPoolHandsOut1024To65535(t *testing.T) {
	for _, dst := range []netip.AddrPort{web, web6} {
		p := new(tuple.Pool)
		all := fill(t, p, dst)
		require.Len(t, all, 64512)
		for _, u := range all {
			require.True(t, u.Src().Addr().IsUnspecified() && u.Src().Port() >= 1024 && u.IsValid(), "%v", u)
		}
		require.Equal(t, tuple.Stats{InUse: 64512, Destinations: 1}, p.Stats())
		require.NoError(t, p.Check())
	}
}

func TestReserveRefusesWhatThePoolCouldNotHandOut(t *testing.T) {
	p := &tuple.Pool{Sources: prefixes("192.0.2.0/31", "2001:db8::1/128"), Ports: alloc.RangeSet(5000, 5009)}
	for s, want := range map[string]bool{
		"192.0.2.0:5000->198.51.100.7:443":          true,
		"192.0.2.1:5009->198.51.100.7:443":          true,
		"[::ffff:192.0.2.1]:5008->198.51.100.7:443": true,
		"[2001:db8::1]:5000->[2001:db8::7]:443":     true,
		"192.0.2.2:5000->198.51.100.7:443":          false,
		"192.0.1.255:5000->198.51.100.7:443":        false,
		"0.0.0.0:5000->198.51.100.7:443":            false,
		"192.0.2.1:4999->198.51.100.7:443":          false,
		"192.0.2.1:5010->198.51.100.7:443":          false,
		"[2001:db8::2]:5000->[2001:db8::7]:443":     false,
	} {
		u := tuple.MustParse(s)
		require.Equal(t, want, p.Reserve(u), s)
		require.Equal(t, want, p.Contains(u), s)
		require.False(t, p.Reserve(u), s)
	}
	require.Equal(t, tuple.Stats{InUse: 4, Destinations: 2}, p.Stats())
	require.NoError(t, p.Check())
}

func TestWithoutSourcesTheSourceOfATupleDoesNotMatter(t *testing.T) {
	p := &tuple.Pool{Ports: alloc.RangeSet(5000, 5000)}
	for _, dst := range []netip.AddrPort{web, web6} {
		src := func(a string) tuple.Tuple { return tuple.From(netip.AddrPortFrom(netip.MustParseAddr(a), 5000), dst) }
		a, b := src("192.0.2.1"), src("203.0.113.9")
		if dst == web6 {
			a, b = src("2001:db8::1"), src("2001:db8::9")
		}
		require.True(t, p.Reserve(a))
		require.True(t, p.Contains(b))
		require.False(t, p.Reserve(b))
		_, err := p.TryAcquire(dst)
		require.ErrorIs(t, err, tuple.ErrExhausted)
		require.True(t, p.Release(b))
		require.True(t, p.Release(acquire(t, p, dst)))
	}
	require.Zero(t, p.Stats())
}

func TestSourcesOfTheCallerMayChangeAfterTheFirstUse(t *testing.T) {
	mine := prefixes("192.0.2.9/32", "192.0.2.1/32")
	p := &tuple.Pool{Sources: mine}
	acquire(t, p, web)
	mine[0], mine[1] = netip.Prefix{}, netip.Prefix{}
	acquire(t, p, web)
	acquire(t, p, dstN(1))
	require.NoError(t, p.Check())
}

func TestExhaustedErrorSaysWhatStoodInTheWay(t *testing.T) {
	e := &tuple.ExhaustedError{Dst: web, InUse: 3, Retired: 2, Next: 12345 * time.Millisecond, Err: tuple.ErrQueueFull}
	require.EqualError(t, e, "no free local port: too many are waiting already "+
		"(towards 198.51.100.7:443: 3 in use, 2 cooling down, next try in 12.3s)")
	require.ErrorIs(t, e, tuple.ErrExhausted)
	require.ErrorIs(t, e, tuple.ErrQueueFull)
	require.False(t, e.Timeout())

	e = &tuple.ExhaustedError{Dst: web6, InUse: 3}
	require.EqualError(t, e, "no free local port (towards [2001:db8:f::7]:443: 3 in use)")
	require.NotErrorIs(t, e, tuple.ErrQueueFull)
	require.False(t, e.Timeout())

	e = &tuple.ExhaustedError{Dst: web, InUse: 28232, Retired: 10, Taken: 3, Next: 2100 * time.Millisecond}
	require.EqualError(t, e, "no free local port "+
		"(towards 198.51.100.7:443: 28232 in use, 10 cooling down, 3 taken, next try in 2.1s)")
	e = &tuple.ExhaustedError{Dst: web, Taken: 1, Next: time.Nanosecond}
	require.EqualError(t, e, "no free local port (towards 198.51.100.7:443: 0 in use, 1 taken, next try in 1ms)")

	e = &tuple.ExhaustedError{Dst: web, Err: context.DeadlineExceeded}
	require.ErrorIs(t, e, context.DeadlineExceeded)
	require.True(t, e.Timeout())
}

// What varies from call to call stands at the end, so that logs can be grouped by the beginning of a line.
func TestTextOfAQuotaErrorBeginsWithWhichQuotaItIs(t *testing.T) {
	for _, e := range []*tuple.QuotaError{
		{Dst: web, Quota: tuple.QuotaTuples, Max: 5, InUse: 5},
		{
			Dst: web6, Quota: tuple.QuotaPerOwner, Max: 5, Owner: `the "first"`, InUse: 3, Retired: 2,
			Err: context.DeadlineExceeded,
		},
	} {
		text := map[tuple.Quota]string{
			tuple.QuotaTuples: "the quota is used up: MaxTuples (towards 198.51.100.7:443: at most 5, 5 in use)",
			tuple.QuotaPerOwner: "the quota is used up: MaxPerOwner: context deadline exceeded " +
				`(towards [2001:db8:f::7]:443: at most 5 of owner "the \"first\"", 3 in use, 2 cooling down)`,
		}
		require.EqualError(t, e, text[e.Quota])
	}
}

// A Scope that returns no destination, or one of another family, is an error of every acquire, which takes nothing.
func TestBadScopeIsAnError(t *testing.T) {
	for _, scope := range []netip.AddrPort{{}, ap("[::]:443"), ap("[2001:db8::1]:443"), ap("192.0.2.1:0")} {
		p := &tuple.Pool{Scope: func(netip.AddrPort) netip.AddrPort { return scope }}
		_, tryErr := p.TryAcquire(web)
		_, err := p.AcquireFor(t.Context(), tuple.Request{Dst: web, Owner: "a"})
		require.ErrorContains(t, tryErr, "Scope of 198.51.100.7:443", "%v", scope)
		require.Equal(t, tryErr, err)
		u := tuple.From(ap("0.0.0.0:5000"), web)
		require.False(t, p.Reserve(u) || p.Contains(u) || p.Release(u))
		require.Zero(t, p.Stats())
	}
}
