package tuple_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

// waitFor is wait for a Request.
func waitFor(ctx context.Context, p *tuple.Pool, r tuple.Request) <-chan result {
	done := make(chan result, 1)
	go func() {
		u, err := p.AcquireFor(ctx, r)
		done <- result{u, err, time.Now()}
	}()
	synctest.Wait()
	return done
}

func acquireFor(t testing.TB, p *tuple.Pool, r tuple.Request) tuple.Tuple {
	t.Helper()
	got, err := p.TryAcquireFor(r)
	require.NoError(t, err)
	return got
}

func ended(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// errors.Is finds in the error of an acquire exactly the reasons why it failed.
func TestEachErrorIsExactlyWhatItShouldBe(t *testing.T) {
	one := alloc.RangeSet(5000, 5000)
	exhausted := func() *tuple.Pool { return &tuple.Pool{Ports: one} }
	all := func() *tuple.Pool { return &tuple.Pool{MaxTuples: 1} }
	ofOwner := func() *tuple.Pool { return &tuple.Pool{MaxPerOwner: 1} }
	ofDst := func() *tuple.Pool { return &tuple.Pool{MaxPerDestination: 1} }
	kinds := []error{
		tuple.ErrExhausted, tuple.ErrQuota, tuple.ErrQueueFull, tuple.ErrClosed,
		context.Canceled, context.DeadlineExceeded,
	}
	text := func(begin, of string) string {
		return "the quota is used up: " + begin + " (towards 198.51.100.7:443: at most 1" + of + ", 1 in use)"
	}
	for name, test := range map[string]struct {
		pool *tuple.Pool
		ctx  func(*testing.T) context.Context // nil: TryAcquireFor
		none bool                             // no waiters
		shut bool
		want []error
		text string
	}{
		"nothing free": {
			pool: exhausted(), want: kinds[:1],
			text: "no free local port (towards 198.51.100.7:443: 1 in use)",
		},
		"over the pool's quota": {pool: all(), want: kinds[1:2], text: text("MaxTuples", "")},
		"over an owner's":       {pool: ofOwner(), want: kinds[1:2], text: text("MaxPerOwner", ` of owner "a"`)},
		"over the destination's": {
			pool: ofDst(), want: kinds[1:2],
			text: text("MaxPerDestination", ""),
		},
		"line full": {
			pool: exhausted(), ctx: (*testing.T).Context, none: true, want: []error{kinds[0], kinds[2]},
		},
		"line full at a quota": {
			pool: ofOwner(), ctx: (*testing.T).Context, none: true, want: kinds[1:3],
			text: text("MaxPerOwner: too many are waiting already", ` of owner "a"`),
		},
		"line full of the pool's": {pool: all(), ctx: (*testing.T).Context, none: true, want: kinds[1:3]},
		"waited too long":         {pool: exhausted(), ctx: soon, want: []error{kinds[0], kinds[5]}},
		"waited too long at a quota": {
			pool: all(), ctx: soon, want: []error{kinds[1], kinds[5]},
			text: text("MaxTuples: context deadline exceeded", ""),
		},
		"waited for the destination": {pool: ofDst(), ctx: soon, want: []error{kinds[1], kinds[5]}},
		"ended before":               {pool: all(), ctx: ended, want: kinds[4:5]},
		"closed": {
			pool: exhausted(), shut: true, want: kinds[3:4],
			text: "tuple: acquire: the pool is closed (towards 198.51.100.7:443)",
		},
		"closed before the quota": {pool: all(), shut: true, want: kinds[3:4]},
		"closed and ended":        {pool: all(), ctx: ended, shut: true, want: kinds[3:4]},
		"no destination":          {pool: &tuple.Pool{Sources: prefixes("2001:db8::1/128"), MaxTuples: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := test.pool
				if test.none {
					p.MaxWaiters = -1
				}
				r := tuple.Request{Dst: web, Owner: "a"}
				if len(test.want) > 0 {
					acquireFor(t, p, r)
				}
				if test.shut {
					require.NoError(t, p.Close())
				}
				var err error
				if test.ctx == nil {
					_, err = p.TryAcquireFor(r)
				} else {
					_, err = p.AcquireFor(test.ctx(t), r)
				}
				require.Error(t, err)
				for _, kind := range kinds {
					want := false
					for _, w := range test.want {
						want = want || w == kind
					}
					require.Equal(t, want, errors.Is(err, kind), "%v Is %v", err, kind)
				}
				timeout, _ := errors.AsType[interface {
					error
					Timeout() bool
				}](err)
				require.Equal(t, errors.Is(err, context.DeadlineExceeded), timeout != nil && timeout.Timeout())
				if test.text != "" {
					require.EqualError(t, err, test.text)
				}
				require.NoError(t, p.Check())
			})
		})
	}
	var quota *tuple.QuotaError
	p := ofOwner()
	acquireFor(t, p, tuple.Request{Dst: web, Owner: "a"})
	_, err := p.TryAcquireFor(tuple.Request{Dst: web6, Owner: "a"})
	require.ErrorAs(t, err, &quota)
	require.Equal(t, tuple.QuotaError{Dst: web6, Quota: tuple.QuotaPerOwner, Max: 1, Owner: "a", InUse: 1}, *quota)
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestQuotasCountUntilATupleHasCooledDown(t *testing.T) {
	for _, p := range []*tuple.Pool{{MaxTuples: 2}, {MaxPerOwner: 2}} {
		synctest.Test(t, func(t *testing.T) {
			r := tuple.Request{Dst: web, Owner: "a"}
			first, second := acquireFor(t, p, r), acquireFor(t, p, r)
			require.True(t, p.Retire(first, time.Minute))
			time.Sleep(time.Minute - 1)
			_, err := p.TryAcquireFor(r)
			require.ErrorIs(t, err, tuple.ErrQuota)
			time.Sleep(time.Nanosecond)
			third := acquireFor(t, p, r)
			require.True(t, p.Release(second) && p.Release(third))
			isEmpty(t, p)
		})
	}
}

// A crawler that wants two connections to each site gets them, however many are cooling down.
func TestMaxPerDestinationCountsWhatIsInUse(t *testing.T) {
	for _, reuse := range []bool{false, true} {
		p := &tuple.Pool{Sources: prefixes("192.0.2.0/31"), MaxPerDestination: 2, ReuseRetired: reuse}
		r := tuple.Request{Dst: web, Owner: "a"}
		for range 10 {
			first, second := acquireFor(t, p, r), acquireFor(t, p, r)
			_, err := p.TryAcquireFor(r)
			require.ErrorIs(t, err, tuple.ErrQuota)
			require.True(t, p.Retire(first, time.Minute) && p.Retire(second, time.Minute))
		}
		require.Equal(t, 2, p.Usage(web).Free)
		waiting := make(chan tuple.Tuple)
		first, second := acquireFor(t, p, r), acquireFor(t, p, r)
		go func() {
			third, err := p.Acquire(t.Context(), web)
			assert.NoError(t, err)
			waiting <- third
		}()
		require.Eventually(t, func() bool { return p.Usage(web).Waiting == 1 }, time.Minute, time.Millisecond)
		require.True(t, p.Retire(first, time.Minute), "this serves the waiter")
		require.True(t, p.Release(<-waiting) && p.Release(second))
		require.NoError(t, p.Check())
	}
}

// A tuple that has cooled down in another shard no longer counts, even if nothing has noticed it yet.
func TestQuotaOfThePoolKnowsWhatHasCooledDownAnywhere(t *testing.T) {
	for _, p := range []*tuple.Pool{{MaxTuples: 300}, {MaxPerOwner: 300}} {
		synctest.Test(t, func(t *testing.T) {
			for i := range 300 {
				u := acquireFor(t, p, tuple.Request{Dst: dstN(i), Owner: "a"})
				require.True(t, p.Retire(u, time.Minute+time.Duration(i)))
			}
			_, err := p.TryAcquireFor(tuple.Request{Dst: web, Owner: "a"})
			require.ErrorIs(t, err, tuple.ErrQuota)
			time.Sleep(time.Minute)
			acquireFor(t, p, tuple.Request{Dst: web, Owner: "a"})
			_, err = p.TryAcquireFor(tuple.Request{Dst: web, Owner: "a"})
			require.ErrorIs(t, err, tuple.ErrQuota)
			require.NoError(t, p.Check())
		})
	}
}

// A waiter is served at the time when a tuple has cooled down, in whatever shard. No timer is left.
func TestCooldownAnywhereWakesWhoWaitsForAQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &tuple.Pool{MaxTuples: 100}
		start := time.Now()
		for i := range 100 {
			require.True(t, p.Retire(acquire(t, p, dstN(i)), time.Duration(1+i)*time.Second))
		}
		require.Zero(t, p.Timers())
		var line []<-chan result
		for range 100 {
			line = append(line, wait(t.Context(), p, web))
		}
		for i, done := range line {
			got := <-done
			require.NoError(t, got.err)
			require.Equal(t, time.Duration(1+i)*time.Second, got.at.Sub(start))
			require.NoError(t, p.Check())
		}
		require.Zero(t, p.Timers())
	})
}

func TestReserveCountsAndIsNotRefused(t *testing.T) {
	p := &tuple.Pool{MaxTuples: 1, MaxPerDestination: 1, Ports: alloc.RangeSet(5000, 5009)}
	var held []tuple.Tuple
	for port := range uint16(3) {
		u := tuple.KeyFrom(netip.IPv4Unspecified(), web).Tuple(5000 + port)
		require.True(t, p.Reserve(u))
		held = append(held, u)
		_, err := p.TryAcquire(web6)
		require.ErrorIs(t, err, tuple.ErrQuota)
	}
	for _, u := range held {
		_, err := p.TryAcquire(web6)
		require.ErrorIs(t, err, tuple.ErrQuota)
		require.True(t, p.Release(u))
	}
	require.True(t, p.Release(acquire(t, p, web6)))
	isEmpty(t, p)
}

func TestOwnersAreToldApartAndARequestWithoutOneHasNoQuota(t *testing.T) {
	p := &tuple.Pool{MaxPerOwner: 2}
	for _, owner := range []string{"a", "b"} {
		for i := range 2 {
			acquireFor(t, p, tuple.Request{Dst: dstN(i), Owner: owner})
		}
		_, err := p.TryAcquireFor(tuple.Request{Dst: web, Owner: owner})
		require.ErrorIs(t, err, tuple.ErrQuota)
	}
	for range 100 {
		acquire(t, p, web)
	}
	require.NoError(t, p.Check())
}

// Destinations that Scope maps to the same one share one quota.
func TestQuotaPerDestinationIsPerScope(t *testing.T) {
	p := &tuple.Pool{
		MaxPerDestination: 2,
		Scope:             func(dst netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(dst.Addr(), 1) },
	}
	first := acquire(t, p, ap("198.51.100.7:443"))
	acquire(t, p, ap("198.51.100.7:80"))
	_, err := p.TryAcquire(ap("198.51.100.7:22"))
	require.ErrorIs(t, err, tuple.ErrQuota)
	require.True(t, p.Release(first))
	acquire(t, p, ap("198.51.100.7:22"))
}

// SetSources changes the numbers of tuples, and keeps their owners.
func TestOwnersKeepTheirTuplesWhenSourcesChange(t *testing.T) {
	p := &tuple.Pool{
		Sources: prefixes("192.0.2.1/32", "192.0.2.8/31"), MaxPerOwner: 6, Ports: alloc.RangeSet(5000, 5005),
	}
	var held []tuple.Tuple
	for i := range 6 {
		held = append(held, acquireFor(t, p, tuple.Request{Dst: dstN(i / 3), Owner: "a"}))
	}
	for _, list := range [][]string{
		{"192.0.2.0/32", "192.0.2.4/30", "192.0.2.9/32"},
		{"192.0.2.0/24"},
		{"10.0.0.0/24"},
	} {
		require.NoError(t, p.SetSources(sourceList(list...)...))
		require.NoError(t, p.Check())
		_, err := p.TryAcquireFor(tuple.Request{Dst: web, Owner: "a"})
		require.ErrorIs(t, err, tuple.ErrQuota)
	}
	for i, u := range held {
		require.True(t, p.Release(u))
		held[i] = acquireFor(t, p, tuple.Request{Dst: web, Owner: "a"})
		_, err := p.TryAcquireFor(tuple.Request{Dst: web, Owner: "a"})
		require.ErrorIs(t, err, tuple.ErrQuota)
	}
	for _, u := range held {
		require.True(t, p.Release(u))
	}
	isEmpty(t, p)
}

func sourceList(list ...string) (sources []tuple.Source) {
	for _, prefix := range prefixes(list...) {
		sources = append(sources, tuple.Source{Prefix: prefix})
	}
	return sources
}

// A waiter for a quota asks for a source that SetSources removes. It goes on waiting, and is served when the source is
// back.
func TestWaiterWhoseSourceIsGoneHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &tuple.Pool{Sources: prefixes("192.0.2.1/32", "192.0.2.8/32"), MaxTuples: 1}
		u := acquireFor(t, p, tuple.Request{Dst: web, Src: netip.MustParseAddr("192.0.2.8")})
		first := waitFor(t.Context(), p, tuple.Request{Dst: dstN(1), Src: netip.MustParseAddr("192.0.2.1")})
		second := wait(t.Context(), p, dstN(2))
		require.NoError(t, p.SetSources(sourceList("192.0.2.8/32")...))
		require.True(t, p.Release(u))
		got := <-second
		require.NoError(t, got.err)
		require.True(t, p.Release(got.tuple))
		synctest.Wait()
		require.Empty(t, first)
		require.NoError(t, p.Check())
		require.NoError(t, p.SetSources(sourceList("192.0.2.1/32")...))
		got = <-first
		require.NoError(t, got.err)
		require.True(t, p.Release(got.tuple))
		isEmpty(t, p)
	})
}

// A waiter whose owner has used up its quota does not hold up those behind it, and keeps its place.
func TestOwnerOverItsQuotaHoldsUpNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &tuple.Pool{Ports: alloc.RangeSet(5000, 5001), MaxPerOwner: 1}
		a := acquireFor(t, p, tuple.Request{Dst: web6, Owner: "a"})
		held := []tuple.Tuple{acquire(t, p, web), acquire(t, p, web)}
		first := waitFor(t.Context(), p, tuple.Request{Dst: web, Owner: "a"})
		second := waitFor(t.Context(), p, tuple.Request{Dst: web, Owner: "b"})
		third := wait(t.Context(), p, web)
		require.Equal(t, 3, p.Stats().Waiting)
		require.True(t, p.Release(held[0]))
		require.NoError(t, (<-second).err, "though a came before")
		require.Empty(t, first)
		require.True(t, p.Release(a)) // now a waits for the destination
		synctest.Wait()
		require.Empty(t, first)
		require.True(t, p.Release(held[1]))
		require.NoError(t, (<-first).err, "a came before the third")
		require.Empty(t, third)
		require.NoError(t, p.Check())
	})
}

func TestNewestOfTheOwnerWithMostMakesRoom(t *testing.T) {
	for _, quota := range []int{0, 1} { // for a destination, for a quota
		synctest.Test(t, func(t *testing.T) {
			p := &tuple.Pool{Ports: alloc.RangeSet(5000, 5000), MaxTuples: quota, MaxWaiters: 4}
			u := acquire(t, p, web)
			full := func(owner string) {
				t.Helper()
				_, err := p.AcquireFor(t.Context(), tuple.Request{Dst: web, Owner: owner})
				require.ErrorIs(t, err, tuple.ErrQueueFull)
			}
			join := func(owner string) <-chan result {
				return waitFor(t.Context(), p, tuple.Request{Dst: web, Owner: owner})
			}
			flood := []<-chan result{join("flood"), join("flood"), join("flood"), join("flood")}
			full("flood")
			b := join("b")
			require.ErrorIs(t, (<-flood[3]).err, tuple.ErrQueueFull)
			c := join("c")
			require.ErrorIs(t, (<-flood[2]).err, tuple.ErrQueueFull)
			full("b") // has one, and no owner has three
			full("flood")
			d := join("d")
			require.ErrorIs(t, (<-flood[1]).err, tuple.ErrQueueFull)
			full("e") // has none, and no owner has two
			require.Equal(t, 4, p.Stats().Waiting)
			require.NoError(t, p.Check())
			for _, done := range []<-chan result{flood[0], b, c, d} {
				require.True(t, p.Release(u))
				require.NoError(t, (<-done).err)
			}
			require.True(t, p.Release(u))
			isEmpty(t, p)
		})
	}
}

// The displaced waiter is the newest of its owner, towards whatever destination.
func TestNewestMakesRoomWhateverItAsksFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &tuple.Pool{MaxTuples: 1, MaxWaiters: 8}
		u := acquire(t, p, web)
		var flood, others []<-chan result
		for i := range 8 {
			flood = append(flood, waitFor(t.Context(), p, tuple.Request{Dst: dstN(i * 5 % 8), Owner: "flood"}))
		}
		for i := range 4 {
			others = append(others, waitFor(t.Context(), p, tuple.Request{Dst: dstN(i), Owner: fmt.Sprint(i)}))
			require.ErrorIs(t, (<-flood[7-i]).err, tuple.ErrQueueFull)
			require.NoError(t, p.Check())
		}
		for _, done := range append(flood[:4], others...) {
			require.True(t, p.Release(u))
			got := <-done
			require.NoError(t, got.err)
			u = got.tuple
		}
		require.True(t, p.Release(u))
		isEmpty(t, p)
	})
}

func TestCancelledWaitersOfQuotasLeaveNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &tuple.Pool{Ports: alloc.RangeSet(5000, 5001), MaxTuples: 5, MaxPerOwner: 2, MaxPerDestination: 1}
		for i := range 4 {
			u := acquireFor(t, p, tuple.Request{Dst: dstN(i), Owner: fmt.Sprint(i / 2)})
			require.True(t, p.Retire(u, time.Hour))
		}
		u := acquire(t, p, dstN(4))
		ctx, cancel := context.WithCancel(t.Context())
		var line []<-chan result
		for i := range 40 {
			line = append(line, waitFor(ctx, p, tuple.Request{Dst: dstN(i % 7), Owner: fmt.Sprint(i % 4)}))
		}
		require.Equal(t, 40, p.Stats().Waiting)
		require.True(t, p.Release(u)) // some go from line to line
		synctest.Wait()
		cancel()
		served := 0
		for _, done := range line {
			if got := <-done; got.err == nil {
				require.True(t, p.Release(got.tuple))
				served++
			} else {
				require.ErrorIs(t, got.err, context.Canceled)
			}
		}
		require.NotZero(t, served) // one, and those still in line when that one gives its tuple back
		require.Zero(t, p.Timers())
		require.NoError(t, p.Check())
		time.Sleep(time.Hour)
		isEmpty(t, p)
	})
}

func TestQuotaBelowZeroIsAnError(t *testing.T) {
	for _, p := range []*tuple.Pool{{MaxTuples: -1}, {MaxPerOwner: -1}, {MaxPerDestination: -1}} {
		_, err := p.TryAcquire(web)
		require.ErrorContains(t, err, "0 means no quota")
		isEmpty(t, p)
	}
}

// To serve a destination may free a quota for a waiter that came earlier and is served first. The waiters of the
// destination must not be forgotten then.
func TestNobodyIsForgottenWhenSourcesComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &tuple.Pool{
			Sources: prefixes("10.0.0.1/32"), Ports: alloc.RangeSet(5000, 5001),
			MaxPerOwner: 2, ReuseRetired: true,
		}
		to := func(dst netip.AddrPort, owner string) tuple.Request { return tuple.Request{Dst: dst, Owner: owner} }
		held := []tuple.Tuple{acquireFor(t, p, to(web, "a")), acquireFor(t, p, to(web, "a"))}
		other := tuple.Source{Prefix: netip.MustParsePrefix("10.0.0.2/32"), Ports: alloc.RangeSet(7000, 7000)}
		require.NoError(t, p.SetSources(other))
		acquireFor(t, p, to(web, "x"))
		for _, u := range held {
			require.True(t, p.Retire(u, time.Hour))
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		first := waitFor(ctx, p, to(web, "b"))
		second := waitFor(ctx, p, to(dstN(8), "a"))
		third := waitFor(ctx, p, to(web, "c"))
		require.NoError(t, p.SetSources(tuple.Source{Prefix: netip.MustParsePrefix("10.0.0.1/32")}, other))
		synctest.Wait()
		require.Zero(t, p.Stats().Waiting)
		for _, done := range []<-chan result{first, second, third} {
			require.NoError(t, (<-done).err)
		}
		require.NoError(t, p.Check())
	})
}

// Who waits how long: a thousand clients want one destination with sixteen ports and come again and again. It asserts
// nothing about the time, which is virtual and so exact; the figures are in the log.
func TestFairness(t *testing.T) {
	for _, test := range []struct {
		name     string
		clients  func(owner int) int
		perOwner int
	}{
		{"even", func(int) int { return 100 }, 0},
		{"even, MaxPerOwner 2", func(int) int { return 100 }, 2},
		{"flood", flood, 0},
		{"flood, MaxPerOwner 2", flood, 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := &tuple.Pool{Ports: alloc.RangeSet(5000, 5015), MaxPerOwner: test.perOwner}
			var mu sync.Mutex
			waits := make([][]time.Duration, 10)
			for owner := range waits {
				for range test.clients(owner) {
					go func() {
						for {
							start := time.Now()
							u, err := p.AcquireFor(t.Context(), tuple.Request{Dst: web, Owner: fmt.Sprint(owner)})
							if err != nil {
								return // the pool is closed
							}
							mu.Lock()
							waits[owner] = append(waits[owner], time.Since(start))
							mu.Unlock()
							time.Sleep(10 * time.Millisecond)
							p.Release(u)
						}
					}()
					synctest.Wait()
				}
			}
			time.Sleep(time.Duration(scaled(20)) * time.Second)
			require.NoError(t, p.Check())
			require.NoError(t, p.Close())
			time.Sleep(time.Second)
			isEmpty(t, p)
			report := func(who string, list []time.Duration) {
				sum := time.Duration(0)
				for _, d := range list {
					sum += d
				}
				mean := sum / time.Duration(len(list))
				most := slices.Max(list)
				t.Logf("%-22s %-9s served %6d, mean wait %8v, longest %8v, %.2f of the mean", test.name, who, len(list),
					mean.Round(time.Millisecond), most.Round(time.Millisecond), float64(most)/float64(mean))
			}
			for i, list := range waits {
				waits[i] = list[len(list)/2:] // the steady state
			}
			report("all", slices.Concat(waits...))
			report("the first", waits[0])
			report("the second", waits[1])
		})
	}
}

func flood(owner int) int {
	if owner == 0 {
		return 910
	}
	return 10
}
