package tuple_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

// place is somebody in line: in the model's order, and with what the Pool does for them.
type place struct {
	done     <-chan result
	cancel   context.CancelFunc
	deadline int64 // 0: none
}

// lines drives a Pool and, beside it, the obvious account of who must be served when.
type lines struct {
	*driver
	line [][]*place // by destination, in order of arrival
}

func TestLinesMoveAsTheModelSays(t *testing.T) {
	for seed, test := range []struct {
		sources []string
		ports   []uint16
	}{
		{nil, []uint16{7}},
		{nil, portList(9, 3, 1)},
		{[]string{"192.0.2.0/31", "2001:db8::/127"}, portList(9, 2, 1)},
		{[]string{"192.0.2.0/30", "2001:db8::/126"}, []uint16{7}},
	} {
		for _, many := range []bool{false, true} {
			t.Run(fmt.Sprintf("sources=%d/ports=%d/many=%t", len(test.sources), len(test.ports), many), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					d := newDriver(t, seeded(t, 2, uint64(seed)), prefixes(test.sources...), test.ports, many)
					d.dsts = []netip.AddrPort{ap(modelDsts[0]), ap(modelDsts[1]), ap(modelDsts[3])}
					if many {
						d.dsts = oneShard(d.pool, 3)
					}
					l := &lines{driver: d, line: make([][]*place, len(d.dsts))}
					for range scaled(3000) {
						l.step()
					}
					l.finish()
				})
			})
		}
	}
}

func (l *lines) step() {
	switch r := l.rng.IntN(20); {
	case r < 7:
		l.join()
	case r < 10 && len(l.inUse) > 0:
		l.end(l.inUse[l.rng.IntN(len(l.inUse))], 0, true)
	case r < 13 && len(l.inUse) > 0:
		l.end(l.inUse[l.rng.IntN(len(l.inUse))], l.cool(), false)
	case r < 14:
		l.others(l.tuple(), l.cool)
	case r < 15:
		l.cancel()
	case r < 16:
		if i := l.rng.IntN(len(l.dsts)); len(l.line[i]) > 0 { // nobody barges in
			_, err := l.pool.TryAcquire(l.dsts[i])
			require.ErrorIs(l, err, tuple.ErrExhausted)
		}
	default:
		l.sleep(time.Duration(l.rng.Int64N(int64(10 * time.Second))))
	}
	l.settle()
	waiting := 0
	for _, line := range l.line {
		waiting += len(line)
	}
	got := l.pool.Stats()
	require.Equal(l, waiting, got.Waiting)
	require.Equal(l, len(l.inUse), got.InUse)
	require.NoError(l, l.pool.Check())
}

// cool is a cool-down that ends at an even number of nanoseconds, as no deadline does.
func (l *lines) cool() time.Duration {
	until := now() + int64(min(max(l.delays(), 0), time.Minute))
	return time.Duration(until&^1 - now())
}

func (l *lines) join() {
	i := l.rng.IntN(len(l.dsts))
	if len(l.line[i]) > 20 {
		return
	}
	p := &place{}
	ctx, cancel := context.WithCancel(l.Context())
	if l.rng.IntN(3) == 0 {
		p.deadline = (now() + 2 + l.rng.Int64N(int64(time.Minute))) | 1
		ctx, cancel = context.WithTimeout(ctx, time.Duration(p.deadline-now()))
	}
	p.cancel = cancel
	p.done = wait(ctx, l.pool, l.dsts[i])
	l.line[i] = append(l.line[i], p)
}

func (l *lines) cancel() {
	i := l.rng.IntN(len(l.dsts))
	if n := len(l.line[i]); n > 0 {
		at := l.rng.IntN(n)
		l.line[i][at].cancel()
		l.gone(i, at, context.Canceled)
	}
}

// gone checks that the one at this place was turned away, and takes them out of line.
func (l *lines) gone(i, at int, why error) {
	p := l.line[i][at]
	synctest.Wait()
	require.Len(l, p.done, 1)
	got := <-p.done
	require.ErrorIs(l, got.err, why)
	require.ErrorIs(l, got.err, tuple.ErrExhausted)
	p.cancel()
	l.line[i] = append(l.line[i][:at], l.line[i][at+1:]...)
}

// sleep goes from one event of the model to the next.
func (l *lines) sleep(d time.Duration) {
	for end := now() + int64(d); now() < end; {
		next := end
		for _, h := range l.model.held {
			if h.until > now() {
				next = min(next, h.until)
			}
		}
		for _, line := range l.line {
			for _, p := range line {
				if p.deadline > now() {
					next = min(next, p.deadline)
				}
			}
		}
		time.Sleep(time.Duration(next - now()))
		l.model.expire(now())
		for i := range l.line {
			for at := 0; at < len(l.line[i]); {
				if p := l.line[i][at]; p.deadline != 0 && p.deadline <= now() {
					l.gone(i, at, context.DeadlineExceeded)
				} else {
					at++
				}
			}
		}
		l.settle()
	}
}

// settle checks that as many have been served as the model has tuples for, those who came first, and nobody else.
func (l *lines) settle() {
	synctest.Wait()
	for i, dst := range l.dsts {
		dst = clean(dst)
		u, _ := l.model.towards(dst)
		for free := u.Free; free > 0 && len(l.line[i]) > 0; free-- {
			first := l.line[i][0]
			require.Len(l, first.done, 1, "%v: %d free, and the first in line still waits", dst, free)
			got := <-first.done
			require.NoError(l, got.err)
			require.Equal(l, now(), got.at.UnixNano())
			require.True(l, l.model.reserve(got.tuple), "%v is held twice", got.tuple)
			l.inUse = append(l.inUse, got.tuple)
			first.cancel()
			l.line[i] = l.line[i][1:]
		}
		for _, p := range l.line[i] {
			require.Empty(l, p.done, "%v: nothing is free, and somebody no longer waits", dst)
		}
	}
}

func (l *lines) finish() {
	for i := range l.line {
		for len(l.line[i]) > 0 {
			l.line[i][0].cancel()
			l.gone(i, 0, context.Canceled)
		}
	}
	l.drain()
	isEmpty(l.T, l.pool)
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
