package tuple_test

import (
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/internal/liveheap"
	"github.com/ephemera-go/ephemera/tuple"
)

// The tuple that was retired first is reused, although another one may come free sooner.
func TestReuseIsInTheOrderOfRetirement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &tuple.Pool{Ports: alloc.RangeSet(5000, 5099), ReuseRetired: true}
		all := fill(t, p, web)
		for i, u := range all {
			require.True(t, p.Retire(u, time.Duration(1+i*37%100)*time.Hour))
			time.Sleep(time.Second)
		}
		for _, u := range all {
			require.Equal(t, u, acquire(t, p, web))
		}
		_, err := p.TryAcquire(web)
		require.ErrorIs(t, err, tuple.ErrExhausted)
	})
}

func TestNothingIsReusedWhileSomethingIsFree(t *testing.T) {
	p := &tuple.Pool{Ports: alloc.RangeSet(5000, 5001), ReuseRetired: true}
	u, v := acquire(t, p, web), acquire(t, p, web)
	require.True(t, p.Retire(u, time.Hour) && p.Release(v))
	require.Equal(t, v, acquire(t, p, web))
	require.Equal(t, u, acquire(t, p, web))
}

func TestNothingIsReusedUnlessAskedFor(t *testing.T) {
	p, u := onePort(t)
	require.True(t, p.Retire(u, time.Hour))
	_, err := p.TryAcquire(web)
	require.ErrorIs(t, err, tuple.ErrExhausted)
	require.Equal(t, 1, p.Stats().Retired)
}

// The end of a cool-down that was cut short must not end a later use or cool-down of the same tuple.
func TestRestThatWasCutShortFreesNothingLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &tuple.Pool{Ports: alloc.RangeSet(5000, 5000), ReuseRetired: true}
		u := acquire(t, p, web)
		for _, next := range []time.Duration{time.Minute, 30 * time.Second, 2 * time.Minute} {
			require.True(t, p.Retire(u, time.Minute))
			time.Sleep(30 * time.Second)
			require.Equal(t, u, acquire(t, p, web))
			time.Sleep(10 * time.Second)
			require.True(t, p.Retire(u, next)) // within the first cool-down
			time.Sleep(20*time.Second - 1)
			require.Equal(t, tuple.Stats{Retired: 1, Destinations: 1}, p.Stats())
			time.Sleep(next - 20*time.Second)
			require.True(t, p.Contains(u))
			time.Sleep(time.Nanosecond)
			isEmpty(t, p)
			require.Equal(t, u, acquire(t, p, web))
		}
	})
}

// There are more kinds of Request than the pool remembers. Each finds its tuple behind many that do not fit.
func TestReuseFindsWhatEachKindOfRequestAsksFor(t *testing.T) {
	p := &tuple.Pool{Ports: alloc.RangeSet(5000, 5999), ReuseRetired: true}
	held := map[uint16]tuple.Tuple{}
	for _, u := range fill(t, p, web) {
		held[u.Src().Port()] = u
	}
	for port := range uint16(1000) {
		require.True(t, p.Retire(held[5000+port], time.Hour))
	}
	for round := range uint16(3) {
		for i := range uint16(100) {
			set := alloc.RangeSet(5900+i, 5900+i).Union(alloc.RangeSet(5100+5*i+round, 5100+5*i+round))
			for _, want := range []uint16{5100 + 5*i + round, 5900 + i} {
				if round > 0 && want >= 5900 {
					continue // was taken in the first round
				}
				u, err := p.TryAcquireFor(tuple.Request{Dst: web, Ports: set})
				require.NoError(t, err)
				require.Equal(t, want, u.Src().Port())
			}
			_, err := p.TryAcquireFor(tuple.Request{Dst: web, Ports: set})
			require.ErrorIs(t, err, tuple.ErrExhausted)
			require.NoError(t, p.Check())
		}
	}
}

// A tuple that is reused early leaves nothing in memory, however long its cool-down was.
func TestMemoryFollowsWhatRestsThoughRestsAreCutShort(t *testing.T) {
	n := scaled(100_000)
	p := &tuple.Pool{Ports: alloc.RangeSet(5000, 5009), ReuseRetired: true}
	for _, u := range fill(t, p, web) {
		require.True(t, p.Retire(u, time.Hour))
	}
	before := liveheap.Bytes()
	for i := range n {
		if !p.Retire(acquire(t, p, web), time.Hour+time.Duration(i)) {
			require.Fail(t, "not in use")
		}
	}
	require.Less(t, liveheap.Bytes()-before, 20<<10)
	require.NoError(t, p.Check())
	runtime.KeepAlive(p)
}

func TestMemoryGoesBackOnceEverythingThatMayBeReusedHasCooledDown(t *testing.T) {
	n := scaled(100_000)
	for name, each := range map[string]int{"1 each": 1, "1000 each": 1000} {
		synctest.Test(t, func(t *testing.T) {
			p := &tuple.Pool{ReuseRetired: true}
			require.Zero(t, p.Stats())
			before := liveheap.Bytes()
			for i := range n {
				if !p.Retire(acquire(t, p, dstN(i/each)), time.Minute) {
					require.Fail(t, "not in use", "%d", i)
				}
			}
			full := liveheap.Bytes()
			t.Logf("%s: %.0f bytes a retired tuple", name, float64(full-before)/float64(n))
			time.Sleep(time.Minute)
			require.Zero(t, p.Stats())
			left := liveheap.Bytes() - before
			t.Logf("%d bytes are left", left)
			require.Less(t, left, (full-before)/20)
			runtime.KeepAlive(p)
		})
	}
}

func TestReuseDoesNotAllocateInTheSteadyState(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	p := &tuple.Pool{Ports: alloc.RangeSet(5000, 5099), ReuseRetired: true}
	for _, u := range fill(t, p, web) {
		require.True(t, p.Retire(u, time.Hour))
	}
	for name, r := range map[string]tuple.Request{
		"anything": {Dst: web},
		"a few":    {Dst: web, Ports: alloc.RangeSet(5040, 5044)},
	} {
		require.Zero(t, testing.AllocsPerRun(2000, func() {
			u, err := p.TryAcquireFor(r)
			if err != nil || !p.Retire(u, time.Hour) {
				panic(fmt.Sprint(u, err))
			}
		}), name)
	}
}

// All tuples are retired, so each acquire reuses the one that was retired first: of all ports, or of a few that lie
// behind all the others.
func BenchmarkTryAcquireReuse(b *testing.B) {
	for _, n := range []int{100, 60_000} {
		for name, set := range map[string]alloc.Set{
			"any": {}, "1": alloc.RangeSet(1024, 1024), "16": alloc.RangeSet(1024, 1039),
		} {
			b.Run(fmt.Sprintf("retired=%d/ports=%s", n, name), func(b *testing.B) {
				p := &tuple.Pool{Ports: alloc.RangeSet(1024, uint16(1023+n)), ReuseRetired: true}
				for _, u := range fill(b, p, web) {
					p.Retire(u, time.Hour)
				}
				b.ReportAllocs()
				for b.Loop() {
					u, err := p.TryAcquireFor(tuple.Request{Dst: web, Ports: set})
					if err != nil || !p.Retire(u, time.Hour) {
						b.Error(u, err)
					}
				}
			})
		}
	}
}
