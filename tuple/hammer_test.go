package tuple_test

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

// owners records who holds which tuple, by compare-and-swap. It notices a tuple that two hold at the same time, and one
// that is given back although nobody held it.
type owners struct {
	slots []atomic.Int32
	base  netip.Addr
	dsts  map[netip.AddrPort]int
	ports int
}

func newOwners(p *tuple.Pool, sources int, dsts ...netip.AddrPort) *owners {
	o := &owners{base: p.Sources[0].Addr(), dsts: map[netip.AddrPort]int{}, ports: p.Ports.Len()}
	for i, dst := range dsts {
		o.dsts[dst] = i
	}
	o.slots = make([]atomic.Int32, len(dsts)*sources*o.ports)
	return o
}

func (o *owners) slot(u tuple.Tuple) *atomic.Int32 {
	source := int(u.Src().Addr().As4()[3] - o.base.As4()[3])
	return &o.slots[(o.dsts[u.Dst()]+len(o.dsts)*source)*o.ports+int(u.Src().Port())-5000]
}

// claim reports whether who could take u, and yield whether who had it.
func (o *owners) claim(u tuple.Tuple, who int32) bool { return o.slot(u).CompareAndSwap(0, who) }
func (o *owners) yield(u tuple.Tuple, who int32) bool { return o.slot(u).CompareAndSwap(who, 0) }

// crowd runs f in n goroutines, each with a number from 1 and random numbers of its own, and waits for them.
func crowd(t *testing.T, n int, f func(who int32, rng *rand.Rand)) {
	t.Logf("seeds: rand.NewPCG(30, 1) to rand.NewPCG(30, %d)", n)
	var wg sync.WaitGroup
	for who := range n {
		wg.Go(func() { f(int32(who+1), rand.New(rand.NewPCG(30, uint64(who+1)))) })
	}
	wg.Wait()
}

func TestTupleIsNeverHeldTwice(t *testing.T) {
	for _, ports := range []uint16{3, 100} {
		p := &tuple.Pool{Sources: prefixes("192.0.2.0/31"), Ports: alloc.RangeSet(5000, 5000+ports-1)}
		dsts := []netip.AddrPort{dstN(0), dstN(1), dstN(2), dstN(3), dstN(4)}
		held := newOwners(p, 2, dsts...)
		all := p.Ports
		crowd(t, 6, func(who int32, rng *rand.Rand) {
			var mine []tuple.Tuple
			for i := range scaled(15000) {
				dst := dsts[rng.IntN(1+rng.IntN(len(dsts)))]
				switch r := rng.IntN(20); {
				case r < 8 && len(mine) < int(ports)*4:
					u, err := p.TryAcquire(dst)
					if err != nil {
						assert.ErrorIs(t, err, tuple.ErrExhausted)
						continue
					}
					if !held.claim(u, who) || !p.Contains(u) || !all.Contains(u.Src().Port()) {
						assert.Fail(t, "held twice", "%v", u)
						return
					}
					mine = append(mine, u)
				case r < 10:
					u := tuple.From(netip.AddrPortFrom(held.base, 5000+uint16(rng.IntN(int(ports)))), dst)
					if p.Reserve(u) {
						if !held.claim(u, who) {
							assert.Fail(t, "reserved what is held", "%v", u)
							return
						}
						mine = append(mine, u)
					}
				case r == 10:
					p.Stats()
				case len(mine) > 0:
					last := rng.IntN(len(mine))
					u := mine[last]
					mine[last] = mine[len(mine)-1]
					mine = mine[:len(mine)-1]
					if !held.yield(u, who) {
						assert.Fail(t, "not mine", "%v", u)
						return
					}
					ended := r < 16 && p.Release(u) || r >= 16 && p.Retire(u, time.Duration(rng.IntN(200_000)))
					if !ended {
						assert.Fail(t, "mine, and not in use", "%v", u)
						return
					}
				}
				if i%2000 == 0 {
					assert.NoError(t, p.Check())
				}
			}
			for _, u := range mine {
				assert.True(t, held.yield(u, who) && p.Release(u), "%v", u)
			}
		})
		time.Sleep(time.Millisecond) // longer than any cool-down of the test
		require.Zero(t, p.Stats())
		require.NoError(t, p.Check())
	}
}

// There are as many tuples as goroutines, and each holds at most one. So each acquire must find one: it may fail only
// if nothing is free at any source.
func TestAcquireDoesNotFailWhileAnythingIsFree(t *testing.T) {
	for _, sources := range []string{"192.0.2.0/32", "192.0.2.0/31", "192.0.2.0/30"} {
		p := &tuple.Pool{Sources: prefixes(sources), Ports: alloc.RangeSet(5000, 5000)}
		n := 1 << (32 - p.Sources[0].Bits())
		held := newOwners(p, n, web)
		crowd(t, n, func(who int32, _ *rand.Rand) {
			for range scaled(20000) {
				u, err := p.TryAcquire(web)
				if err != nil || !held.claim(u, who) || !held.yield(u, who) || !p.Release(u) {
					assert.NoError(t, err)
					assert.Fail(t, "held twice", "%v", u)
					return
				}
			}
		})
		require.Zero(t, p.Stats())
	}
}

func TestRandomlyCancelledWaitersEndWithEverythingFree(t *testing.T) {
	p := &tuple.Pool{Sources: prefixes("192.0.2.0/31"), Ports: alloc.RangeSet(5000, 5001), MaxWaiters: 6}
	dsts := []netip.AddrPort{dstN(0), dstN(1)}
	held := newOwners(p, 2, dsts...)
	var served, ended atomic.Int64
	crowd(t, 16, func(who int32, rng *rand.Rand) {
		for range scaled(2000) {
			ctx, cancel := context.WithCancel(context.Background())
			switch rng.IntN(3) {
			case 0:
				ctx, cancel = context.WithTimeout(context.Background(), time.Duration(rng.IntN(100_000)))
			case 1:
				go cancel()
			}
			u, err := p.Acquire(ctx, dsts[rng.IntN(len(dsts))])
			cancel()
			if err != nil {
				ended.Add(1)
				if ctx.Err() == nil {
					assert.ErrorIs(t, err, tuple.ErrQueueFull)
				}
				continue
			}
			served.Add(1)
			if !held.claim(u, who) {
				assert.Fail(t, "held twice", "%v", u)
				return
			}
			time.Sleep(time.Duration(rng.IntN(3) * 1000))
			held.yield(u, who)
			if rng.IntN(2) == 0 {
				assert.True(t, p.Release(u))
			} else {
				assert.True(t, p.Retire(u, time.Duration(rng.IntN(50_000))))
			}
		}
	})
	t.Logf("%d served, %d not", served.Load(), ended.Load())
	require.NotZero(t, served.Load())
	require.NotZero(t, ended.Load())
	time.Sleep(time.Millisecond) // longer than any cool-down of the test
	require.Zero(t, p.Stats())
	require.Zero(t, p.Timers())
	require.NoError(t, p.Check())
}
