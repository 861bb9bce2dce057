package tuple_test

import (
	"context"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

func TestPortsFollowTheHostWhileThePoolIsInUse(t *testing.T) {
	for _, sources := range [][]netip.Prefix{nil, prefixes("192.0.2.1/32", "2001:db8::1/128")} {
		p := &tuple.Pool{Sources: sources}
		require.NoError(t, only.SetPorts(p, alloc.RangeSet(5000, 5009)), "before the first use")
		few, many, other := hold(t, p, dstN(1), nil, 2), fill(t, p, web), fill(t, p, web6)
		require.Len(t, many, 10)
		require.True(t, p.Retire(many[0], time.Hour))

		require.NoError(t, only.SetPorts(p, alloc.RangeSet(5008, 5019)))
		require.NoError(t, p.Check())
		require.Equal(t, 12, p.Usage(dstN(7)).Free)
		require.Equal(t, 10, p.Usage(web).Free, "two of the old ports are still in use")
		gone := tuple.KeyFrom(many[0].Src().Addr(), dstN(7)).Tuple(5000)
		require.Equal(t, tuple.Foreign, p.State(gone))
		require.False(t, p.Reserve(gone) || p.HandsOut(gone.Src().Addr(), 5000))
		more := fill(t, p, web)
		require.Len(t, more, 10)
		for _, u := range append(append(append(more, few...), many[1:]...), other...) {
			require.Equal(t, tuple.InUse, p.State(u), "%v", u)
			require.True(t, p.Contains(u))
			require.True(t, p.Release(u))
			require.NoError(t, p.Check())
		}
		require.Equal(t, tuple.Retired, p.State(many[0]))
		for port := range uint16(100) {
			require.Equal(t, 8 <= port && port < 20, p.HandsOut(many[0].Src().Addr(), 5000+port))
		}
	}
}

func TestSourcesWithPortsOfTheirOwnKeepThem(t *testing.T) {
	p := &tuple.Pool{Sources: prefixes("192.0.2.1/32")}
	own, follows := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	require.NoError(t, only.SetPorts(p, alloc.RangeSet(5000, 5000)))
	require.NoError(t, p.SetSources(
		tuple.Source{Prefix: netip.PrefixFrom(own, 32), Ports: alloc.RangeSet(5000, 5000)},
		tuple.Source{Prefix: netip.PrefixFrom(follows, 32)},
	))
	require.NoError(t, only.SetPorts(p, alloc.RangeSet(6000, 6000)))
	require.True(t, p.HandsOut(own, 5000) && p.HandsOut(follows, 6000))
	require.False(t, p.HandsOut(own, 6000) || p.HandsOut(follows, 5000))
	require.NoError(t, p.SetSources(tuple.Source{Prefix: netip.PrefixFrom(own, 32)}))
	require.True(t, p.HandsOut(own, 6000), "sources that come later have the ports of now")
}

// With few ports, tuples cannot lie in cells.
func TestPortsThatAreAddedAreGivenToThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &tuple.Pool{}
		require.NoError(t, only.SetPorts(p, alloc.RangeSet(5000, 5000)))
		u := acquire(t, p, web)
		first, second := wait(t.Context(), p, web), wait(t.Context(), p, web)
		require.NoError(t, only.SetPorts(p, alloc.RangeSet(6000, 6000)))
		require.Equal(t, uint16(6000), (<-first).tuple.Src().Port())
		synctest.Wait()
		require.Empty(t, second)
		require.True(t, p.Release(u))
		synctest.Wait()
		require.Empty(t, second, "its port is none of the pool's now")
		require.NoError(t, only.SetPorts(p, alloc.RangeSet(6000, 6100)))
		require.NoError(t, (<-second).err)
		require.NoError(t, p.Check())
	})
}

// SetPorts is often called with the ports that the pool has already.
func TestTheSamePortsChangeNothing(t *testing.T) {
	p := &tuple.Pool{}
	require.NoError(t, only.SetPorts(p, alloc.RangeSet(1024, 65535)))
	acquire(t, p, web)
	same := alloc.RangeSet(1024, 65535)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if err := only.SetPorts(p, same); err != nil {
			t.Error(err)
		}
	}))
}

func TestSetPortsSaysWhatIsWrong(t *testing.T) {
	set := alloc.RangeSet(5000, 5001)
	require.ErrorContains(t, only.SetPorts(&tuple.Pool{Ports: set}, set), "Pool.Ports is set")
	require.ErrorContains(t, only.SetPorts(&tuple.Pool{}, alloc.Set{}), "no port")
	require.ErrorContains(t, only.SetPorts(&tuple.Pool{MaxTuples: -1}, set), "MaxTuples")
	p := new(tuple.Pool)
	require.NoError(t, p.Close())
	require.ErrorIs(t, only.SetPorts(p, set), tuple.ErrClosed)
}

// Ports that leave and come back do not drain a source twice.
func TestPortsThatComeBackGoOnWithWhatIsHeld(t *testing.T) {
	p := &tuple.Pool{}
	sets := []alloc.Set{alloc.RangeSet(5000, 5009), alloc.RangeSet(5005, 5014), alloc.RangeSet(5012, 5012)}
	var held []tuple.Tuple
	for i := range 30 {
		require.NoError(t, only.SetPorts(p, sets[i%3].Union(alloc.Set{})))
		if u, err := p.TryAcquire(web); err == nil {
			held = append(held, u)
		}
		held = append(held, hold(t, p, dstN(i), nil, 1)...)
		require.NoError(t, p.Check())
		for _, u := range held {
			require.True(t, p.Contains(u))
		}
	}
	for _, u := range held {
		require.True(t, p.Release(u))
	}
	isEmpty(t, p)
}

func TestHasSourceKnowsTheFamilies(t *testing.T) {
	v4, v6 := netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("::1")
	mapped4 := netip.MustParseAddr("::ffff:192.0.2.9")
	has := func(p *tuple.Pool) []bool {
		return []bool{only.HasSource(p, v4), only.HasSource(p, mapped4), only.HasSource(p, v6)}
	}
	require.Equal(t, []bool{true, true, true}, has(new(tuple.Pool)))
	p := &tuple.Pool{Sources: prefixes("192.0.2.1/32")}
	require.Equal(t, []bool{true, true, false}, has(p))
	require.NoError(t, p.SetSources(tuple.Source{Prefix: netip.MustParsePrefix("2001:db8::1/128")}))
	require.Equal(t, []bool{false, false, true}, has(p))
	require.NoError(t, p.Close())
	require.Equal(t, []bool{false, false, false}, has(p))
}

func TestSlotIsThePoolsOwn(t *testing.T) {
	p, q := new(tuple.Pool), new(tuple.Pool)
	var slot *atomic.Value = only.Slot(p)
	require.True(t, slot.CompareAndSwap(nil, "p"))
	require.Equal(t, "p", only.Slot(p).Load())
	require.Nil(t, only.Slot(q).Load())
}

// The error of a waiter whose deadline passed counts the taken tuples.
func TestDeadlineErrorCountsWhatOthersHave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, u := onePort(t)
		require.True(t, only.Yield(p, u, time.Hour))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := p.Acquire(ctx, web)
		want := &tuple.ExhaustedError{Dst: web, Taken: 1, Next: 59 * time.Minute, Err: context.DeadlineExceeded}
		require.Equal(t, want, err)
	})
}
