package tuple_test

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

func TestCloseWakesAllWhoWaitAtOnce(t *testing.T) {
	for _, quota := range []int{0, 10} {
		synctest.Test(t, func(t *testing.T) {
			p := &tuple.Pool{Ports: alloc.RangeSet(5000, 5000), MaxTuples: quota}
			start := time.Now()
			var held []tuple.Tuple
			for i := range 10 {
				held = append(held, acquire(t, p, dstN(i)))
			}
			require.True(t, p.Retire(held[0], time.Hour))
			var line []<-chan result
			for i := range 100 {
				line = append(line, wait(t.Context(), p, dstN(i%10)))
			}
			require.NoError(t, p.Close())
			require.NoError(t, p.Close())
			for _, done := range line {
				got := <-done
				require.ErrorIs(t, got.err, tuple.ErrClosed)
				require.NotErrorIs(t, got.err, tuple.ErrExhausted)
				require.Equal(t, start, got.at)
			}
			require.Zero(t, p.Timers())
			require.NoError(t, p.Check())

			// Tuples that are held stay held.
			require.Equal(t, tuple.Stats{InUse: 9, Retired: 1, Destinations: 10}, p.Stats())
			require.True(t, p.Contains(held[0]) && p.Contains(held[1]))
			require.True(t, p.Release(held[1]))
			require.False(t, p.Release(held[1]) || p.Contains(held[1]) || p.Reserve(held[1]))
			for _, u := range held[2:] {
				require.True(t, p.Retire(u, time.Minute))
			}
			time.Sleep(time.Hour)
			isEmpty(t, p)
		})
	}
}

func TestClosedPoolHandsOutNothing(t *testing.T) {
	for _, p := range []*tuple.Pool{{}, {Sources: prefixes("192.0.2.1/32")}, {MaxPerOwner: 1}, {Policy: tuple.Random}} {
		require.NoError(t, p.Close())
		_, err := p.TryAcquire(web)
		require.ErrorIs(t, err, tuple.ErrClosed)
		_, err = p.Acquire(t.Context(), web)
		require.ErrorIs(t, err, tuple.ErrClosed)
		_, err = p.AcquireFor(t.Context(), tuple.Request{Dst: web, Owner: "a"})
		require.ErrorIs(t, err, tuple.ErrClosed)
		require.ErrorIs(t, p.SetSources(sourceList("192.0.2.1/32")...), tuple.ErrClosed)
		isEmpty(t, p)
	}
}

// After Close has returned, nothing is handed out and nobody waits, even if tuples are released at the same time.
func TestCloseUnderLoad(t *testing.T) {
	for _, quota := range []int{0, 3} {
		for range scaled(20) {
			p := &tuple.Pool{
				Sources: prefixes("192.0.2.0/31"), Ports: alloc.RangeSet(5000, 5000),
				MaxTuples: quota, MaxPerOwner: quota,
			}
			var closed atomic.Bool
			crowd(t, 8, func(who int32, rng *rand.Rand) {
				for i := 0; ; i++ {
					if who == 1 && i == 50 {
						assert.NoError(t, p.Close())
						closed.Store(true)
					}
					was := closed.Load()
					r := tuple.Request{Dst: dstN(rng.IntN(3)), Owner: string('a' + rune(rng.IntN(2)))}
					u, err := p.AcquireFor(context.Background(), r)
					if err != nil {
						assert.ErrorIs(t, err, tuple.ErrClosed)
						return
					}
					assert.False(t, was, "handed out by a closed pool")
					if rng.IntN(2) == 0 {
						assert.True(t, p.Release(u))
					} else {
						assert.True(t, p.Retire(u, time.Duration(rng.IntN(20_000))))
					}
				}
			})
			time.Sleep(time.Millisecond) // longer than any cool-down of the test
			isEmpty(t, p)
		}
	}
}
