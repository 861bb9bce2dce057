package tuple_test

import (
	"context"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

// quotaLinearModel is the sequential model of two destinations with two tuples each, numbered from 0, under a quota. An
// acquire names the destination.
func quotaLinearModel(most int) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return uint64(0) },
		Step: func(state, input, output any) (bool, any) {
			held, in, out := state.(uint64), input.(call), output.(int)
			switch {
			case in.what == "release":
				return (held>>in.n&1 != 0) == (out == yes), held &^ (1 << in.n)
			case in.what == "reserve":
				return (held>>in.n&1 == 0) == (out == yes), held | 1<<in.n
			case out == none:
				return bits.OnesCount64(held) >= most || held>>(2*in.n)&3 == 3, held
			}
			return bits.OnesCount64(held) < most && held>>out&1 == 0 && out/2 == in.n, held | 1<<out
		},
		DescribeOperation: func(input, output any) string { return fmt.Sprintf("%v: %v", input, output) },
	}
}

// A quota refuses an acquire only if at some instant it was used up, whatever happens under other locks.
func TestQuotasAreLinearizable(t *testing.T) {
	dsts := []netip.AddrPort{dstN(0), dstN(1)}
	number := func(u tuple.Tuple) int { return 2*slices.Index(dsts, u.Dst()) + int(u.Src().Port()) - 5000 }
	nth := func(n int) tuple.Tuple {
		return tuple.KeyFrom(netip.IPv4Unspecified(), dsts[n/2]).Tuple(5000 + uint16(n%2))
	}
	for most := 1; most <= 3; most++ {
		for _, ofOwner := range []bool{false, true} {
			t.Log("seeds: rand.NewPCG(70+round, client)")
			for round := range scaled(60) {
				p := &tuple.Pool{Ports: alloc.RangeSet(5000, 5001), MaxTuples: most}
				if ofOwner {
					p.MaxTuples, p.MaxPerOwner = 0, most
				}
				var clock atomic.Int64
				histories := make([][]porcupine.Operation, 4)
				var wg sync.WaitGroup
				for client := range histories {
					wg.Go(func() {
						rng := rand.New(rand.NewPCG(70+uint64(round), uint64(client)))
						for range 20 {
							op := porcupine.Operation{ClientId: client, Call: clock.Add(1)}
							out := no
							switch r := rng.IntN(9); {
							case r < 4:
								dst := rng.IntN(2)
								op.Input = call{"acquire", dst}
								out = none
								if u, err := p.TryAcquireFor(tuple.Request{Dst: dsts[dst], Owner: "a"}); err == nil {
									out = number(u)
								}
							case r == 4 && !ofOwner: // what is reserved has no owner
								n := rng.IntN(4)
								op.Input = call{"reserve", n}
								if p.Reserve(nth(n)) {
									out = yes
								}
							default:
								n := rng.IntN(4)
								op.Input = call{"release", n}
								if p.Release(nth(n)) {
									out = yes
								}
							}
							op.Output, op.Return = out, clock.Add(1)
							histories[client] = append(histories[client], op)
						}
					})
				}
				wg.Wait()
				history := slices.Concat(histories...)
				if !porcupine.CheckOperations(quotaLinearModel(most), history) {
					for _, op := range history {
						t.Logf("%d [%d, %d] %v: %v", op.ClientId, op.Call, op.Return, op.Input, op.Output)
					}
					require.Fail(t, "no order of these operations explains their results")
				}
			}
		}
	}
}

// The test counts what each owner and all of them hold. It must never be more than the quota.
func TestQuotasAreNeverExceeded(t *testing.T) {
	p := &tuple.Pool{
		Sources: prefixes("192.0.2.0/31"), Ports: alloc.RangeSet(5000, 5002),
		MaxTuples: 9, MaxPerOwner: 4, MaxPerDestination: 5, MaxWaiters: 5,
	}
	dsts := []netip.AddrPort{dstN(0), dstN(1), dstN(2)}
	held := newOwners(p, 2, dsts...)
	var all atomic.Int64
	var of [3]atomic.Int64
	var ofDst [3]atomic.Int64
	var served, not atomic.Int64
	crowd(t, 16, func(who int32, rng *rand.Rand) {
		for i := range scaled(2000) {
			owner, dst := rng.IntN(3), rng.IntN(3)
			ctx, cancel := context.WithCancel(context.Background())
			switch rng.IntN(3) {
			case 0:
				ctx, cancel = context.WithTimeout(context.Background(), time.Duration(rng.IntN(100_000)))
			case 1:
				go cancel()
			}
			u, err := p.AcquireFor(ctx, tuple.Request{Dst: dsts[dst], Owner: fmt.Sprint(owner)})
			cancel()
			if err != nil {
				not.Add(1)
				if ctx.Err() == nil {
					assert.ErrorIs(t, err, tuple.ErrQueueFull)
				}
				continue
			}
			served.Add(1)
			if !held.claim(u, who) || of[owner].Add(1) > 4 || all.Add(1) > 9 || ofDst[dst].Add(1) > 5 {
				assert.Fail(t, "held twice, or over a quota", "%v %d %d %d",
					u, of[owner].Load(), all.Load(), ofDst[dst].Load())
				return
			}
			time.Sleep(time.Duration(rng.IntN(3) * 1000))
			of[owner].Add(-1)
			all.Add(-1)
			ofDst[dst].Add(-1)
			held.yield(u, who)
			if rng.IntN(2) == 0 {
				assert.True(t, p.Release(u))
			} else {
				assert.True(t, p.Retire(u, time.Duration(rng.IntN(50_000))))
			}
			switch {
			case i%100 == 0:
				assert.NoError(t, p.Check())
			case i%100 == 50 && who == 1:
				assert.NoError(t, p.SetSources(sourceList([]string{"192.0.2.0/31", "192.0.2.1/32"}[i/50%2])...))
			}
		}
	})
	t.Logf("%d served, %d not", served.Load(), not.Load())
	require.NotZero(t, served.Load())
	require.NotZero(t, not.Load())
	time.Sleep(time.Millisecond) // longer than any cool-down of the test
	isEmpty(t, p)
}

// The cost to serve one of a thousand waiters when a tuple is released.
func BenchmarkReleaseWhileAThousandWait(b *testing.B) {
	for name, p := range map[string]*tuple.Pool{
		"none":        {},
		"MaxPerOwner": {MaxPerOwner: 2},
		"MaxTuples":   {MaxTuples: 8},
	} {
		for _, dsts := range []int{1, 1000} {
			if dsts > 1 && name == "none" {
				continue
			}
			b.Run(fmt.Sprintf("quota=%s/destinations=%d", name, dsts), func(b *testing.B) {
				p := &tuple.Pool{Ports: alloc.RangeSet(5000, 5015), MaxPerOwner: p.MaxPerOwner, MaxTuples: p.MaxTuples}
				served := make(chan tuple.Tuple, 1000)
				for i := range 1020 {
					go func() {
						for n := i; ; n++ {
							r := tuple.Request{Dst: dstN(n % dsts), Owner: fmt.Sprint(i % 10)}
							u, err := p.AcquireFor(context.Background(), r)
							if err != nil {
								return
							}
							served <- u
						}
					}()
				}
				for p.Stats().Waiting < 1000 {
					time.Sleep(time.Millisecond)
				}
				for b.Loop() {
					p.Release(<-served)
				}
				p.Close()
				for len(served) > 0 {
					<-served
				}
			})
		}
	}
}
