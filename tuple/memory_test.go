package tuple_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/internal/liveheap"
	"github.com/ephemera-go/ephemera/tuple"
)

func TestMemoryGoesBackOnceEverythingIsReleased(t *testing.T) {
	n := scaled(100_000)
	for _, test := range []struct {
		name string
		pool *tuple.Pool
		dst  func(i int) netip.AddrPort
		each int // tuples a destination
	}{
		{"IPv4", &tuple.Pool{}, dstN, 1},
		{"IPv6 from many sources", &tuple.Pool{Sources: prefixes("2001:db8::/64")}, dst6N, 1},
		{"a few each", &tuple.Pool{Sources: prefixes("192.0.2.0/30")}, dstN, 5},
	} {
		t.Run(test.name, func(t *testing.T) {
			require.Zero(t, test.pool.Stats()) // makes its tables
			held := make([]tuple.Tuple, 0, n*test.each)
			before := liveheap.Bytes()
			for i := range n {
				for range test.each {
					held = append(held, acquire(t, test.pool, test.dst(i)))
				}
			}
			full := liveheap.Bytes()
			t.Logf("%.0f bytes a destination", float64(full-before)/float64(n))
			require.Equal(t, tuple.Stats{InUse: n * test.each, Destinations: n}, test.pool.Stats())
			for i, u := range held {
				if !test.pool.Release(u) {
					require.Fail(t, "not in use", "%d: %v", i, u)
				}
			}
			left := liveheap.Bytes() - before
			t.Logf("%d bytes are left", left)
			require.Less(t, left, (full-before)/20)
			require.Zero(t, test.pool.Stats())
			require.NoError(t, test.pool.Check())
			runtime.KeepAlive(held)
		})
	}
}

// A destination that many sources connected to, and that keeps one tuple, keeps only the memory of one tuple.
func TestMemoryGoesBackWhileADestinationLives(t *testing.T) {
	p := &tuple.Pool{Sources: prefixes("10.0.0.0/12"), Ports: alloc.RangeSet(2000, 2000)}
	require.Zero(t, p.Stats())
	n := scaled(100_000)
	held := make([]tuple.Tuple, n)
	before := liveheap.Bytes()
	for i := range held {
		held[i] = acquire(t, p, dstN(0))
	}
	full := liveheap.Bytes()
	for _, u := range held[1:] {
		require.True(t, p.Release(u))
	}
	left := liveheap.Bytes() - before
	t.Logf("%d bytes for %d tuples, %d for the last", full-before, n, left)
	require.Less(t, left, (full-before)/20)
	require.NoError(t, p.Check())
	runtime.KeepAlive(held)
}

// A program may use a random cool-down for each tuple. What so many durations need must be freed too.
func TestMemoryGoesBackOnceEverythingHasCooledDown(t *testing.T) {
	n := scaled(100_000)
	for _, test := range []struct {
		name  string
		delay func(i int) time.Duration
	}{
		{"one duration", func(int) time.Duration { return time.Minute }},
		{"many durations", func(i int) time.Duration { return time.Minute + time.Duration(i) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := new(tuple.Pool)
				require.Zero(t, p.Stats())
				before := liveheap.Bytes()
				for i := range n {
					if !p.Retire(acquire(t, p, dstN(i)), test.delay(i)) {
						require.Fail(t, "not in use", "%d", i)
					}
				}
				full := liveheap.Bytes()
				t.Logf("%.0f bytes a retired tuple", float64(full-before)/float64(n))
				time.Sleep(2 * time.Minute)
				require.Zero(t, p.Stats())
				left := liveheap.Bytes() - before
				t.Logf("%d bytes are left", left)
				require.Less(t, left, (full-before)/20)
				require.NoError(t, p.Check())
				runtime.KeepAlive(p)
			})
		})
	}
}

func TestWidePrefixCostsConstantMemory(t *testing.T) {
	before := liveheap.Bytes()
	p := &tuple.Pool{Sources: prefixes("2001:db8::/32", "2001:db9::/64")}
	u := acquire(t, p, web6)
	require.Less(t, liveheap.Bytes()-before, 100<<10) // the ports are 8 KiB, the shards 10
	require.True(t, p.Release(u))
}

// The destinations of one shard share a cooling queue.
func TestExpiredDestinationsAreFreedByWhateverHappensNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := map[string]func(p *tuple.Pool, held tuple.Tuple){
			"Stats":      func(p *tuple.Pool, _ tuple.Tuple) { p.Stats() },
			"TryAcquire": func(p *tuple.Pool, held tuple.Tuple) { acquire(t, p, held.Dst()) },
			"Reserve":    func(p *tuple.Pool, held tuple.Tuple) { p.Reserve(held) },
			"Release":    func(p *tuple.Pool, held tuple.Tuple) { p.Release(held) },
			"Retire":     func(p *tuple.Pool, held tuple.Tuple) { p.Retire(held, time.Hour) },
			"Contains":   func(p *tuple.Pool, held tuple.Tuple) { p.Contains(held) },
		}
		for name, happens := range next {
			p := &tuple.Pool{Ports: alloc.RangeSet(5000, 5001)}
			held := acquire(t, p, web)
			n := 0
			for i := range 2000 {
				u := acquire(t, p, dstN(i))
				if !p.SameShard(u, held) {
					require.True(t, p.Release(u))
					continue
				}
				require.True(t, p.Retire(u, time.Minute))
				n++
			}
			require.Positive(t, n)
			require.Equal(t, n+1, p.Tables())
			time.Sleep(time.Minute)
			require.Equal(t, n+1, p.Tables(), "something runs in an idle Pool")
			happens(p, held)
			require.LessOrEqual(t, p.Tables(), 1, name)
			require.NoError(t, p.Check())
		}
	})
}

func TestSteadyStateDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	oneBusy := func(p *tuple.Pool) *tuple.Pool {
		for range 1000 {
			acquire(t, p, web)
		}
		return p
	}
	almostFull := func(p *tuple.Pool) *tuple.Pool {
		all := fill(t, p, web)
		for i := range len(all) / 1000 {
			require.True(t, p.Release(all[i*1000]))
		}
		return p
	}
	lone := func(p *tuple.Pool) *tuple.Pool {
		acquire(t, p, web)
		return p
	}
	other := func(p *tuple.Pool) *tuple.Pool {
		for i := range 1000 {
			acquire(t, p, dstN(i))
		}
		return p
	}
	for name, p := range map[string]*tuple.Pool{
		"empty":                   {},
		"empty, one source":       {Sources: prefixes("192.0.2.1/32")},
		"empty, many sources":     {Sources: prefixes("192.0.2.0/24")},
		"one tuple":               lone(&tuple.Pool{}),
		"one tuple, many sources": lone(&tuple.Pool{Sources: prefixes("192.0.2.0/24")}),
		"one busy":                oneBusy(&tuple.Pool{}),
		"one busy, two sources":   oneBusy(&tuple.Pool{Sources: prefixes("192.0.2.0/31")}),
		"others":                  other(&tuple.Pool{}),
		"99.9 % full":             almostFull(&tuple.Pool{}),
		"99.9 % full, sources": almostFull(&tuple.Pool{
			Sources: prefixes("192.0.2.0/31"), Ports: alloc.RangeSet(5000, 9999),
		}),
		"between full and not": almostFull(&tuple.Pool{Ports: alloc.RangeSet(5000, 5999)}),
		"few ports, full and not": almostFull(&tuple.Pool{
			Sources: prefixes("192.0.2.0/25"), Ports: alloc.RangeSet(5000, 5007),
		}),
	} {
		require.True(t, p.Release(acquire(t, p, web)))
		require.Zero(t, testing.AllocsPerRun(2000, func() {
			u, err := p.TryAcquire(web)
			if err != nil || !p.Contains(u) || !p.Release(u) || p.Contains(u) {
				panic(fmt.Sprint(u, err))
			}
		}), name)
	}
}

func TestReserveAndRetireDoNotAllocateInTheSteadyState(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	p := new(tuple.Pool)
	for range 500 {
		require.True(t, p.Retire(acquire(t, p, web), time.Hour))
	}
	u := acquire(t, p, web)
	require.Zero(t, testing.AllocsPerRun(2000, func() {
		if !p.Release(u) || !p.Reserve(u) {
			panic("not mine")
		}
	}))

	synctest.Test(t, func(t *testing.T) {
		p := new(tuple.Pool)
		for i := range 1000 {
			time.Sleep(time.Millisecond)
			require.True(t, p.Retire(acquire(t, p, dstN(i%5)), time.Second))
		}
		require.Zero(t, testing.AllocsPerRun(2000, func() {
			time.Sleep(time.Millisecond)
			u, err := p.TryAcquire(dstN(0))
			if err != nil || !p.Retire(u, time.Second) {
				panic(fmt.Sprint(u, err))
			}
		}))
	})
}

// A destination of several sources that falls to one tuple or none keeps its empty maps, for when it is large again:
// that of the sources and that of the full sources.
func TestDestinationThatChangesItsFormDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for name, test := range map[string]struct {
		sources     []string
		ports       alloc.Set
		least, each int // tuples that stay, and that come and go
	}{
		"from 0 to 4":                      {nil, alloc.Set{}, 0, 4},
		"from 0 to 4, two sources":         {[]string{"192.0.2.0/31"}, alloc.Set{}, 0, 4},
		"from 1 to 5, many sources":        {[]string{"192.0.2.0/24"}, alloc.Set{}, 1, 4},
		"from 0 to 2, two sources, 1 port": {[]string{"192.0.2.0/31"}, alloc.RangeSet(5000, 5000), 0, 2},
		"from 0 to 1, one port":            {nil, alloc.RangeSet(5000, 5000), 0, 1},
		"from 0 to 3, 3 ports":             {nil, alloc.RangeSet(5000, 5002), 0, 3},
		"from 0 to 4, 4 ports":             {nil, alloc.RangeSet(5000, 5003), 0, 4},
	} {
		p := &tuple.Pool{Sources: prefixes(test.sources...), Ports: test.ports}
		for range test.least {
			acquire(t, p, web)
		}
		var held [5]tuple.Tuple
		require.Zero(t, testing.AllocsPerRun(1000, func() {
			for i := range test.each {
				u, err := p.TryAcquire(web)
				if err != nil {
					panic(err)
				}
				held[i] = u
			}
			for _, u := range held[:test.each] {
				if !p.Release(u) {
					panic(fmt.Sprint(u))
				}
			}
		}), name)
		require.NoError(t, p.Check())
	}
}
