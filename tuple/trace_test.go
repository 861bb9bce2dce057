package tuple_test

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

// traced makes p record the calls of its hooks. The function returns those since its last call.
func traced(p *tuple.Pool) (said func() []string) {
	var mu sync.Mutex
	var lines []string
	say := func(format string, args ...any) {
		p.Stats() // takes every lock
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, fmt.Sprintf(format, args...))
	}
	p.Trace = &tuple.Trace{
		WaitStart: func(dst netip.AddrPort) { say("wait %v", dst) },
		Acquired:  func(t tuple.Tuple, waited time.Duration) { say("acquired %v %v", t, waited) },
		Exhausted: func(dst netip.AddrPort, err error) { say("exhausted %v: %v", dst, err) },
		Retired:   func(t tuple.Tuple, d time.Duration) { say("retired %v %v", t, d) },
		Released:  func(t tuple.Tuple) { say("released %v", t) },
	}
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		defer func() { lines = nil }()
		return lines
	}
}

func TestTraceTellsWhatCallsDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &tuple.Pool{Ports: alloc.RangeSet(5000, 5000)}
		said := traced(p)
		u := acquire(t, p, web)
		require.Equal(t, []string{"acquired 0.0.0.0:5000->198.51.100.7:443 0s"}, said())

		_, err := p.TryAcquire(web)
		require.Equal(t, []string{"exhausted 198.51.100.7:443: " + err.Error()}, said())

		// The pool ignores the source of a tuple that it is given, and the hooks name the tuple as it was handed out.
		require.True(t, p.Retire(tuple.MustParse("10.0.0.1:5000->198.51.100.7:443"), time.Minute))
		require.False(t, p.Retire(u, time.Minute))
		require.False(t, p.Release(u))
		require.False(t, p.Reserve(u))
		require.Equal(t, []string{"retired 0.0.0.0:5000->198.51.100.7:443 1m0s"}, said())

		got, err := p.Acquire(t.Context(), web)
		require.NoError(t, err)
		require.Equal(t, []string{"wait 198.51.100.7:443", "acquired 0.0.0.0:5000->198.51.100.7:443 1m0s"}, said())

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err = p.Acquire(ctx, web)
		require.Equal(t, []string{"wait 198.51.100.7:443", "exhausted 198.51.100.7:443: " + err.Error()}, said())
		_, err = p.Acquire(ctx, web) // ctx has ended before
		require.Error(t, err)
		require.Empty(t, said())
		cancel()

		require.True(t, p.Retire(got, -1))
		require.Equal(t, []string{"released 0.0.0.0:5000->198.51.100.7:443"}, said())
		require.True(t, p.Reserve(tuple.MustParse("10.0.0.1:5000->198.51.100.7:443")))
		require.Equal(t, []string{"acquired 0.0.0.0:5000->198.51.100.7:443 0s"}, said())
		require.True(t, p.Release(got))
		require.Equal(t, []string{"released 0.0.0.0:5000->198.51.100.7:443"}, said())

		_, err = p.TryAcquire(netip.AddrPort{})
		require.Error(t, err)
		require.Empty(t, said(), "no tuple was wanting")
	})
}

// Goroutines wait, are displaced and give up at the same time. The hooks count exactly the tuples in use.
func TestTraceAddsUpToWhatIsInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &tuple.Pool{Sources: prefixes("192.0.2.0/31"), Ports: alloc.RangeSet(5000, 5004)}
		var mu sync.Mutex
		inUse, waits, ends := 0, 0, 0
		add := func(to *int, n int) {
			mu.Lock()
			defer mu.Unlock()
			*to += n
		}
		p.Trace = &tuple.Trace{
			WaitStart: func(netip.AddrPort) { add(&waits, 1) },
			Acquired:  func(tuple.Tuple, time.Duration) { add(&inUse, 1); add(&ends, 1) },
			Exhausted: func(netip.AddrPort, error) { add(&ends, 1) },
			Retired:   func(tuple.Tuple, time.Duration) { add(&inUse, -1) },
			Released:  func(tuple.Tuple) { add(&inUse, -1) },
		}
		var all sync.WaitGroup
		calls := 400
		for i := range calls {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%50)*time.Millisecond)
				defer cancel()
				u, err := p.Acquire(ctx, web)
				if err != nil {
					return
				}
				time.Sleep(time.Duration(i%7) * time.Millisecond)
				switch i % 20 {
				case 0:
				case 1:
					p.Retire(u, time.Millisecond)
				default:
					p.Release(u)
				}
			})
		}
		all.Wait()
		require.Equal(t, p.Stats().InUse, inUse)
		require.NotZero(t, inUse)
		require.NotZero(t, waits)
		require.LessOrEqual(t, ends, calls)
	})
}

func TestTraceWithoutHooksChangesNothing(t *testing.T) {
	p := &tuple.Pool{Ports: alloc.RangeSet(5000, 5001), Trace: new(tuple.Trace)}
	held := fill(t, p, web)
	require.Len(t, held, 2)
	require.True(t, p.Retire(held[0], time.Hour))
	require.True(t, p.Release(held[1]))
	require.True(t, p.Reserve(held[1]))
	require.NoError(t, p.Check())
}

// A hook that panics or exits its goroutine leaves no waiter in line, which would get a tuple that nobody gives back.
func TestWaitStartThatPanicsLeavesTheLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p *tuple.Pool
		var u tuple.Tuple
		for _, given := range []bool{false, true} {
			p = &tuple.Pool{Ports: alloc.RangeSet(5000, 5000), Trace: &tuple.Trace{WaitStart: func(netip.AddrPort) {
				if given {
					require.True(t, p.Release(u)) // it goes to the waiter
				}
				panic("hook")
			}}}
			u = acquire(t, p, web)
			require.PanicsWithValue(t, "hook", func() { p.Acquire(t.Context(), web) })
			require.Zero(t, p.Stats().Waiting)
			require.Equal(t, !given, p.Release(u))
			isEmpty(t, p)
		}
	})
}
