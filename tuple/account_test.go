package tuple_test

import (
	"maps"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

// stateOf is a slow Pool.State.
func (m *machine) stateOf(u tuple.Tuple) tuple.State {
	switch h := m.held[m.key(u)]; {
	case h != nil && h.taken:
		return tuple.Taken
	case h != nil && h.until == 0:
		return tuple.InUse
	case h != nil:
		return tuple.Retired
	case m.isHandedOut(u):
		return tuple.Free
	}
	return tuple.Foreign
}

// The loop over All may change the Pool.
func TestAllHoldsNoLockWhileItYields(t *testing.T) {
	p := &tuple.Pool{}
	want := map[tuple.Tuple]tuple.State{}
	for i := range 200 {
		want[acquire(t, p, dstN(i))] = tuple.InUse
		u := acquire(t, p, dst6N(i))
		p.Retire(u, time.Hour)
		want[u] = tuple.Retired
	}
	for u, state := range p.All() {
		if u.Dst() == dstN(1000) {
			continue // acquired meanwhile
		}
		require.Equal(t, want[u], state)
		require.Equal(t, state == tuple.InUse, p.Release(u))
		acquire(t, p, dstN(1000))
		delete(want, u)
		if len(want) == 50 {
			break
		}
	}
	require.Len(t, want, 50, "it stops when the loop does")
}

func TestAllAndStateAreThoseOfTheScope(t *testing.T) {
	p := &tuple.Pool{Scope: func(netip.AddrPort) netip.AddrPort { return web }}
	u := acquire(t, p, dstN(1))
	requireAll(t, map[tuple.Tuple]tuple.State{tuple.From(u.Src(), web): tuple.InUse}, p)
	other := netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), u.Src().Port())
	require.Equal(t, tuple.InUse, p.State(tuple.From(other, dstN(7))))
	require.Equal(t, tuple.Foreign, p.State(tuple.From(u.Src(), web6)), "a Scope of another family")
}

func TestHandsOutKnowsTheSourcesOfNow(t *testing.T) {
	a4, b4, any4 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.IPv4Unspecified()
	a6, any6 := netip.MustParseAddr("2001:db8::1"), netip.IPv6Unspecified()
	p := &tuple.Pool{Ports: alloc.RangeSet(5000, 5001)}
	for _, a := range []netip.Addr{a4, b4, any4, a6, any6} {
		require.True(t, p.HandsOut(a, 5000))
		require.False(t, p.HandsOut(a, 5002))
	}
	require.False(t, p.HandsOut(netip.Addr{}, 5000))

	p = &tuple.Pool{Sources: prefixes("192.0.2.1/32"), Ports: alloc.RangeSet(5000, 5001)}
	held := acquire(t, p, web)
	require.NoError(t, p.SetSources(tuple.Source{
		Prefix: netip.MustParsePrefix("192.0.2.2/32"), Ports: alloc.RangeSet(6000, 6001),
	}))
	require.True(t, p.HandsOut(b4, 6000))
	require.True(t, p.HandsOut(any4, 6000))
	require.True(t, p.HandsOut(netip.MustParseAddr("::ffff:192.0.2.2"), 6000))
	for _, a := range []netip.Addr{a4, any4, b4} {
		require.False(t, p.HandsOut(a, held.Src().Port()), "of a source that is drained, whatever it holds")
	}
	require.False(t, p.HandsOut(a6, 6000))
	require.False(t, p.HandsOut(any6, 6000))
	require.False(t, p.HandsOut(a4, 6000))
	require.NoError(t, p.Close())
	require.False(t, p.HandsOut(b4, 6000))
}

// Watch notices a use that ends and begins again, whatever name the tuple is given.
func TestWatchTellsWhatEndedMeanwhile(t *testing.T) {
	for _, scope := range []func(netip.AddrPort) netip.AddrPort{
		nil,
		func(netip.AddrPort) netip.AddrPort { return web },
	} {
		for _, sources := range [][]netip.Prefix{nil, prefixes("192.0.2.1/32", "2001:db8::1/128")} {
			p := &tuple.Pool{Sources: sources, Scope: scope}
			stays, ends, rests := acquire(t, p, dstN(1)), acquire(t, p, dstN(1)), acquire(t, p, dstN(1))
			byName := map[uint16]tuple.Tuple{}
			for u := range p.All() {
				byName[u.Src().Port()] = u
			}
			w := p.Watch(maps.Values(byName))
			unwatched := acquire(t, p, dstN(1))
			for range 2 {
				src := ends.Src()
				if sources == nil {
					src = netip.AddrPortFrom(netip.MustParseAddr("192.0.2.77"), src.Port())
				}
				require.True(t, p.Release(tuple.From(src, ends.Dst())))
				require.True(t, p.Reserve(ends))
			}
			require.True(t, p.RetireAs(rests, tuple.ActiveClose))
			require.True(t, p.Release(unwatched))
			other := p.Watch(maps.Values(byName))
			w.Stop()
			require.True(t, p.Release(stays))
			require.True(t, other.Ended(byName[stays.Src().Port()]))
			other.Stop()
			for u, ended := range map[tuple.Tuple]bool{stays: false, ends: true, rests: true} {
				require.Equal(t, ended, w.Ended(byName[u.Src().Port()]), "%v", u)
			}
			require.False(t, w.Ended(unwatched))
			require.False(t, p.IsWatched())
		}
	}
}
