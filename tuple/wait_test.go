package tuple_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

// result is the result of an Acquire, and when it came.
type result struct {
	tuple tuple.Tuple
	err   error
	at    time.Time
}

// wait starts an Acquire and returns once it waits or is done.
func wait(ctx context.Context, p *tuple.Pool, dst netip.AddrPort) <-chan result {
	done := make(chan result, 1)
	go func() {
		u, err := p.Acquire(ctx, dst)
		done <- result{u, err, time.Now()}
	}()
	synctest.Wait()
	return done
}

// onePort returns a pool with one tuple towards each destination. That towards web is in use.
func onePort(t *testing.T) (*tuple.Pool, tuple.Tuple) {
	p := &tuple.Pool{Ports: alloc.RangeSet(5000, 5000)}
	return p, acquire(t, p, web)
}

// isEmpty requires that p holds nothing and runs no timer.
func isEmpty(t *testing.T, p *tuple.Pool) {
	t.Helper()
	require.Zero(t, p.Stats())
	require.Zero(t, p.Timers())
	require.Zero(t, p.Tables())
	require.NoError(t, p.Check())
}

func TestAcquireDoesNotWaitIfSomethingIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &tuple.Pool{Ports: alloc.RangeSet(5000, 5000)}
		start := time.Now()
		u, err := p.Acquire(t.Context(), web)
		require.NoError(t, err)
		require.Equal(t, start, time.Now())
		require.True(t, p.Release(u))
		isEmpty(t, p)
	})
}

func TestWaitersAreServedFirstComeFirstServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, u := onePort(t)
		var line []<-chan result
		for range 10 {
			line = append(line, wait(t.Context(), p, web))
		}
		require.Equal(t, tuple.Stats{InUse: 1, Waiting: 10, Destinations: 1}, p.Stats())
		for i, done := range line {
			require.True(t, p.Release(u))
			synctest.Wait()
			got := <-done
			require.NoError(t, got.err)
			require.Equal(t, u, got.tuple)
			require.Equal(t, 9-i, p.Stats().Waiting)
			require.NoError(t, p.Check())
		}
		require.True(t, p.Release(u))
		isEmpty(t, p)
	})
}

// Nobody can acquire the tuple between a Release and the next step of the waiter.
func TestReleaseServesTheFirstWaiterAtOnceAndNobodyBargesIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, u := onePort(t)
		done := wait(t.Context(), p, web)
		require.True(t, p.Release(u))
		_, err := p.TryAcquire(web)
		require.ErrorIs(t, err, tuple.ErrExhausted)
		require.False(t, p.Reserve(u))
		require.True(t, p.Contains(u))
		require.Equal(t, tuple.Stats{InUse: 1, Destinations: 1}, p.Stats())
		require.Equal(t, u, (<-done).tuple)
	})
}

func TestTupleOfAnyOfTheSourcesServesAWaiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &tuple.Pool{Sources: prefixes("192.0.2.0/25"), Ports: alloc.RangeSet(5000, 5000)}
		all := fill(t, p, web)
		for _, u := range all {
			done := wait(t.Context(), p, web)
			require.True(t, p.Release(u))
			require.Equal(t, u, (<-done).tuple)
		}
		require.NoError(t, p.Check())
	})
}

func TestWaitersOfOneDestinationDoNotHoldUpAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, u := onePort(t)
		done := wait(t.Context(), p, web)
		other := acquire(t, p, web6)
		require.True(t, p.Release(other))
		require.Equal(t, 1, p.Stats().Waiting)
		require.Empty(t, done)
		require.True(t, p.Release(u))
		require.NoError(t, (<-done).err)
	})
}

func TestCooldownWakesTheWaiterAtExactlyItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, u := onePort(t)
		start := time.Now()
		require.True(t, p.Retire(u, time.Minute))
		require.Zero(t, p.Timers(), "a timer though nobody waits")
		done := wait(t.Context(), p, web)
		require.Equal(t, 1, p.Timers())
		got := <-done
		require.NoError(t, got.err)
		require.Equal(t, u, got.tuple)
		require.Equal(t, time.Minute, got.at.Sub(start))
		require.Zero(t, p.Timers())
		require.True(t, p.Release(u))
		isEmpty(t, p)
	})
}

func TestRetireWhilePeopleWaitWakesThemAtItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &tuple.Pool{Ports: alloc.RangeSet(5000, 5002)}
		held := fill(t, p, web)
		start := time.Now()
		first, second, third := wait(t.Context(), p, web), wait(t.Context(), p, web), wait(t.Context(), p, web)
		require.Zero(t, p.Timers())
		require.True(t, p.Retire(held[0], time.Hour))
		require.True(t, p.Retire(held[1], time.Minute)) // earlier
		require.True(t, p.Retire(held[2], 2*time.Hour)) // later
		require.Equal(t, 1, p.Timers())
		for i, want := range []struct {
			done <-chan result
			in   time.Duration
		}{{first, time.Minute}, {second, time.Hour}, {third, 2 * time.Hour}} {
			got := <-want.done
			require.NoError(t, got.err)
			require.Equal(t, want.in, got.at.Sub(start), "waiter %d", i)
			require.NoError(t, p.Check())
		}
		require.Zero(t, p.Timers())
	})
}

// A timer for one destination must not be lost when another of its shard needs one, and must not outlive the last
// waiter.
func TestCooldownOfManyDestinationsWakesEachAtItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &tuple.Pool{Ports: alloc.RangeSet(5000, 5000)}
		start := time.Now()
		var line []<-chan result
		for i := range 300 {
			require.True(t, p.Retire(acquire(t, p, dstN(i)), time.Duration(1+i*37%300)*time.Second))
		}
		for i := range 300 {
			line = append(line, wait(t.Context(), p, dstN(i)))
		}
		for i, done := range line {
			got := <-done
			require.NoError(t, got.err)
			require.Equal(t, time.Duration(1+i*37%300)*time.Second, got.at.Sub(start))
			require.True(t, p.Release(got.tuple))
		}
		isEmpty(t, p)
	})
}

func TestTupleRetiredForeverLetsTheWaiterWaitUntilItsContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, u := onePort(t)
		require.True(t, p.Retire(u, 1<<63-1))
		ctx, cancel := context.WithTimeout(t.Context(), 1000*time.Hour)
		defer cancel()
		got := <-wait(ctx, p, web)
		require.ErrorIs(t, got.err, context.DeadlineExceeded)
		require.Equal(t, tuple.Stats{Retired: 1, Destinations: 1}, p.Stats())
		require.Zero(t, p.Timers())
	})
}

// With the real clock, because the clock of a bubble does not reach its end.
func TestLongestCooldownDoesNotWrap(t *testing.T) {
	p, u := onePort(t)
	require.True(t, p.Retire(u, 1<<63-1))
	_, err := p.TryAcquire(web)
	var exhausted *tuple.ExhaustedError
	require.ErrorAs(t, err, &exhausted)
	require.Greater(t, exhausted.Next, 100*365*24*time.Hour)
	require.Equal(t, 1, p.Stats().Retired)
	require.NoError(t, p.Check())
}

func TestDeadlineErrorIsOfBothKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &tuple.Pool{Ports: alloc.RangeSet(5000, 5001)}
		u := acquire(t, p, web)
		require.True(t, p.Retire(u, time.Hour))
		acquire(t, p, web)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		got := <-wait(ctx, p, web)
		require.Equal(t, time.Minute, got.at.Sub(start))
		require.Zero(t, got.tuple)
		require.ErrorIs(t, got.err, tuple.ErrExhausted)
		require.ErrorIs(t, got.err, context.DeadlineExceeded)
		var timeout interface{ Timeout() bool }
		require.ErrorAs(t, got.err, &timeout)
		require.True(t, timeout.Timeout())
		require.Equal(t, &tuple.ExhaustedError{
			Dst: web, InUse: 1, Retired: 1, Next: 59 * time.Minute, Err: context.DeadlineExceeded,
		}, got.err)
	})
}

func TestContextThatHasEndedTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		p := &tuple.Pool{Ports: alloc.RangeSet(5000, 5000)}
		u, err := p.Acquire(ctx, web) // though one is free
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorContains(t, err, web.String())
		require.Zero(t, u)
		isEmpty(t, p)

		acquire(t, p, web)
		_, err = p.Acquire(ctx, web)
		require.ErrorIs(t, err, context.Canceled)
		require.Zero(t, p.Stats().Waiting)

		late, cancel := context.WithTimeout(t.Context(), -time.Second)
		defer cancel()
		_, err = p.Acquire(late, web)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		var timeout interface{ Timeout() bool }
		require.True(t, errors.As(err, &timeout) && timeout.Timeout())
	})
}

func TestCancelledWaiterLeavesNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, u := onePort(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := wait(ctx, p, web)
		require.True(t, p.Retire(u, time.Hour))
		require.Equal(t, 1, p.Timers())
		cancel()
		got := <-done
		require.ErrorIs(t, got.err, context.Canceled)
		require.ErrorIs(t, got.err, tuple.ErrExhausted)
		require.Zero(t, p.Timers())
		require.Equal(t, tuple.Stats{Retired: 1, Destinations: 1}, p.Stats())
		time.Sleep(time.Hour)
		isEmpty(t, p)
	}) // the bubble fails if a goroutine is left
}

func TestCancelledWaiterInTheMiddleOfTheLineIsPassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, u := onePort(t)
		first := wait(t.Context(), p, web)
		ctx, cancel := context.WithCancel(t.Context())
		second, third := wait(ctx, p, web), wait(t.Context(), p, web)
		cancel()
		require.Error(t, (<-second).err)
		for _, done := range []<-chan result{first, third} {
			require.True(t, p.Release(u))
			require.Equal(t, u, (<-done).tuple)
		}
		require.True(t, p.Release(u))
		isEmpty(t, p)
	})
}

// The context ends and the tuple comes at the same time. Either the waiter has left the line, and the next one gets the
// tuple. Or it has not, and it has the tuple in use, so that an acquire may fail meanwhile.
func TestCancelledAndServedAtOnceLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for i := range 200 {
			p, u := onePort(t)
			ctx, cancel := context.WithCancel(t.Context())
			first, second := wait(ctx, p, web), wait(t.Context(), p, web)
			if i%2 == 0 {
				cancel()
				require.True(t, p.Release(u))
			} else {
				require.True(t, p.Release(u))
				cancel()
			}
			_, err := p.TryAcquire(web)
			require.ErrorIs(t, err, tuple.ErrExhausted)
			got := <-first
			if got.err == nil {
				require.True(t, p.Release(got.tuple))
			} else {
				require.ErrorIs(t, got.err, context.Canceled)
			}
			require.Equal(t, u, (<-second).tuple)
			require.True(t, p.Release(u))
			isEmpty(t, p)
		}
	})
}

// The same with nobody else in line: the tuple is free, and the destination is removed.
func TestCancelledAndServedAtOnceFreesTheTuple(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 100 {
			p, u := onePort(t)
			ctx, cancel := context.WithCancel(t.Context())
			done := wait(ctx, p, web)
			cancel()
			require.True(t, p.Release(u))
			if got := <-done; got.err == nil {
				require.True(t, p.Release(got.tuple))
			}
			isEmpty(t, p)
		}
	})
}

// A caller wrongly releases the tuple of another one, just when its waiter gives up. That must not touch a destination
// that was removed.
func TestServedTupleMayBeGoneWhenItsWaiterGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 100 {
			p, u := onePort(t)
			ctx, cancel := context.WithCancel(t.Context())
			done := wait(ctx, p, web)
			cancel()
			require.True(t, p.Release(u))
			p.Release(u) // the tuple of the waiter, if that has not run yet
			if got := <-done; got.err != nil {
				var exhausted *tuple.ExhaustedError
				require.ErrorAs(t, got.err, &exhausted)
				require.Equal(t, web, exhausted.Dst)
			}
			isEmpty(t, p)
		}
	})
}

func TestDeadlineAtTheVeryTimeOfTheCooldownLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 50 {
			p, u := onePort(t)
			require.True(t, p.Retire(u, time.Minute))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			got := <-wait(ctx, p, web)
			cancel()
			if got.err == nil {
				require.True(t, p.Release(got.tuple))
			}
			synctest.Wait()
			isEmpty(t, p)
		}
	})
}

func TestMaxWaitersBoundsTheLine(t *testing.T) {
	for _, test := range []struct{ max, want int }{
		{0, tuple.DefaultMaxWaiters}, {3, 3}, {1, 1}, {-1, 0}, {-1 << 31, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := &tuple.Pool{Ports: alloc.RangeSet(5000, 5000), MaxWaiters: test.max}
			u := acquire(t, p, web)
			ctx, cancel := context.WithCancel(t.Context())
			var line []<-chan result
			for range test.want {
				line = append(line, wait(ctx, p, web))
			}
			start := time.Now()
			_, err := p.Acquire(ctx, web)
			require.Equal(t, start, time.Now())
			require.ErrorIs(t, err, tuple.ErrQueueFull)
			require.ErrorIs(t, err, tuple.ErrExhausted)
			require.Equal(t, tuple.Stats{InUse: 1, Waiting: test.want, Destinations: 1}, p.Stats())

			other := acquire(t, p, web6) // has a line of its own
			if test.want > 0 {
				done := wait(ctx, p, web6)
				require.True(t, p.Release(other))
				require.NoError(t, (<-done).err)
				require.True(t, p.Release(u)) // makes room for one
				line = append(line, wait(ctx, p, web))
				require.Equal(t, test.want, p.Stats().Waiting)
			}
			cancel()
			for _, done := range line {
				<-done
			}
			require.Zero(t, p.Stats().Waiting)
			require.NoError(t, p.Check())
		})
	}
	require.Equal(t, 1024, tuple.DefaultMaxWaiters)
}

// Waiters, retired tuples and a Pool nobody refers to any more: the timer fires into an empty line, and that is all.
func TestTimerOfAnAbandonedPoolDoesNoHarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &tuple.Pool{Ports: alloc.RangeSet(5000, 5000)}
		require.True(t, p.Retire(acquire(t, p, web), time.Minute))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute-1)
		defer cancel()
		require.Error(t, (<-wait(ctx, p, web)).err)
		time.Sleep(time.Hour)
		isEmpty(t, p)
	})
}
