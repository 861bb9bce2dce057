package tuple_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

// reuser drives a Pool with ReuseRetired and, beside it, the obvious account: what is in use, and what is retired in
// the order in which it was, in one list.
type reuser struct {
	*testing.T
	rng     *rand.Rand
	pool    *tuple.Pool
	sources []tuple.Source // single addresses
	dsts    []netip.AddrPort
	inUse   []tuple.Tuple
	retired []rested
	line    []asker
}

type rested struct {
	tuple.Tuple
	until int64
}

type asker struct {
	request tuple.Request
	done    <-chan result
	cancel  context.CancelFunc
}

func TestReuseTakesWhatTheModelTakes(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &reuser{T: t, rng: seeded(t, 60, seed)}
				r.sources = reuseSources[seed%3]
				r.pool = &tuple.Pool{ReuseRetired: true, Ports: reusePorts, Policy: tuple.Policy(seed % 5)}
				for _, s := range r.sources {
					r.pool.Sources = append(r.pool.Sources, s.Prefix)
				}
				r.pool.SetRand(locked(rand.New(rand.NewPCG(61, seed)).Uint64))
				r.dsts = oneShard(r.pool, 2+int(seed%2))
				for range scaled(3000) {
					r.step()
				}
				r.finish()
			})
		})
	}
}

var (
	reusePorts   = alloc.RangeSet(5000, 5003)
	reuseSources = [][]tuple.Source{
		{{Prefix: netip.MustParsePrefix("192.0.2.1/32")}},
		{{Prefix: netip.MustParsePrefix("192.0.2.1/32")}, {Prefix: netip.MustParsePrefix("192.0.2.9/32")}},
		{{Prefix: netip.MustParsePrefix("192.0.2.1/32")}, {Prefix: netip.MustParsePrefix("203.0.113.1/32")}, {Prefix: netip.MustParsePrefix("203.0.113.2/32")}},
		{{Prefix: netip.MustParsePrefix("192.0.2.1/32"), Ports: alloc.RangeSet(5002, 5006)}, {Prefix: netip.MustParsePrefix("192.0.2.9/32")}},
	}
	reuseAsks = []alloc.Set{{}, {}, alloc.RangeSet(5000, 5001), alloc.MustParseSet("5001,5003"), alloc.RangeSet(5003, 5005)}
)

// fits reports whether u is what is asked for, and handed out at present.
func (r *reuser) fits(u tuple.Tuple, q *tuple.Request) bool {
	if u.Dst() != q.Dst || q.Src.IsValid() && q.Src != u.Src().Addr() || !q.Ports.IsZero() && !q.Ports.Contains(u.Src().Port()) {
		return false
	}
	return slices.Contains(r.all(q.Dst), u)
}

// all returns what the sources have towards dst.
func (r *reuser) all(dst netip.AddrPort) (all []tuple.Tuple) {
	for _, s := range r.sources {
		set := s.Ports
		if set.IsZero() {
			set = reusePorts
		}
		for port := range set.All() {
			all = append(all, tuple.KeyFrom(s.Prefix.Addr(), dst).Tuple(port))
		}
	}
	return all
}

// want returns what a request may be given, in which case it is one of these; if they are retired, there is but one.
func (r *reuser) want(q *tuple.Request) (free []tuple.Tuple, oldest int) {
	for _, u := range r.all(q.Dst) {
		if r.fits(u, q) && !slices.Contains(r.inUse, u) && r.find(u) < 0 {
			free = append(free, u)
		}
	}
	return free, slices.IndexFunc(r.retired, func(e rested) bool { return r.fits(e.Tuple, q) })
}

func (r *reuser) find(u tuple.Tuple) int {
	return slices.IndexFunc(r.retired, func(e rested) bool { return e.Tuple == u })
}

// got checks what a request was given.
func (r *reuser) got(u tuple.Tuple, err error, q *tuple.Request) {
	free, oldest := r.want(q)
	require.NoError(r, err, "%v", *q)
	if len(free) > 0 {
		require.Contains(r, free, u)
	} else {
		require.GreaterOrEqual(r, oldest, 0, "%v out of nothing", u)
		require.Equal(r, r.retired[oldest].Tuple, u, "not the one that has rested longest")
		r.retired = slices.Delete(r.retired, oldest, oldest+1)
	}
	r.inUse = append(r.inUse, u)
}

func (r *reuser) step() {
	switch n := r.rng.IntN(100); {
	case n < 35:
		r.acquire()
	case n < 75 && len(r.inUse) > 0:
		r.end()
	case n < 78:
		u := r.all(r.dsts[0])[0]
		held := slices.Contains(r.inUse, u) || r.find(u) >= 0
		require.Equal(r, held, r.pool.Contains(u))
		require.Equal(r, !held, r.pool.Reserve(u))
		if !held {
			r.inUse = append(r.inUse, u)
		}
	case n < 80 && len(r.line) > 0:
		i := r.rng.IntN(len(r.line))
		r.line[i].cancel()
		require.ErrorIs(r, (<-r.line[i].done).err, context.Canceled)
		r.line = slices.Delete(r.line, i, i+1)
	case n < 82:
		r.sources = reuseSources[r.rng.IntN(len(reuseSources))]
		require.NoError(r, r.pool.SetSources(r.sources...))
		synctest.Wait()
		for i := 0; i < len(r.line); {
			w := &r.line[i]
			if free, oldest := r.want(&w.request); len(free) == 0 && oldest < 0 {
				i++
				continue
			}
			require.Len(r, w.done, 1)
			got := <-w.done
			r.got(got.tuple, got.err, &w.request)
			w.cancel()
			r.line = slices.Delete(r.line, i, i+1)
		}
	default:
		time.Sleep(time.Duration(r.rng.Int64N(int64(12 * time.Second))))
		r.expire()
	}
	for _, w := range r.line {
		require.Empty(r, w.done, "%v was given what the model has not", w.request)
		free, oldest := r.want(&w.request)
		require.True(r, len(free) == 0 && oldest < 0)
	}
	stats := r.pool.Stats()
	require.Equal(r, []int{len(r.inUse), len(r.retired), len(r.line)}, []int{stats.InUse, stats.Retired, stats.Waiting})
	require.NoError(r, r.pool.Check())
}

func (r *reuser) expire() {
	r.retired = slices.DeleteFunc(r.retired, func(e rested) bool { return e.until <= now() })
}

func (r *reuser) acquire() {
	q := tuple.Request{Dst: r.dsts[r.rng.IntN(len(r.dsts))], Ports: reuseAsks[r.rng.IntN(len(reuseAsks))]}
	if r.rng.IntN(3) == 0 {
		q.Src = r.sources[r.rng.IntN(len(r.sources))].Prefix.Addr()
	}
	free, oldest := r.want(&q)
	if len(free) == 0 && oldest < 0 && len(r.line) < 8 && r.rng.IntN(3) == 0 {
		if !slices.ContainsFunc(r.all(q.Dst), func(u tuple.Tuple) bool { return r.fits(u, &q) }) {
			return // an error, whatever is free
		}
		ctx, cancel := context.WithCancel(r.Context())
		done := make(chan result, 1)
		go func() {
			u, err := r.pool.AcquireFor(ctx, q)
			done <- result{u, err, time.Now()}
		}()
		synctest.Wait()
		r.line = append(r.line, asker{q, done, cancel})
		return
	}
	u, err := r.pool.TryAcquireFor(q)
	if len(free) == 0 && oldest < 0 {
		require.Error(r, err)
		if exhausted, ok := err.(*tuple.ExhaustedError); ok {
			next := int64(never)
			for _, e := range r.retired {
				if e.Dst() == q.Dst {
					next = min(next, e.until)
				}
			}
			if next < never {
				require.Equal(r, time.Duration(next-now()), exhausted.Next)
			}
		}
		return
	}
	r.got(u, err, &q)
}

// end releases or retires a tuple. The first in line who can do with it has it at once.
func (r *reuser) end() {
	i := r.rng.IntN(len(r.inUse))
	u := r.inUse[i]
	r.inUse = slices.Delete(r.inUse, i, i+1)
	delay := []time.Duration{0, 5 * time.Second, time.Minute, time.Minute, time.Duration(1 + r.rng.Int64N(int64(time.Minute)))}[r.rng.IntN(5)]
	require.True(r, r.pool.Retire(u, delay))
	synctest.Wait()
	for i := range r.line {
		if w := r.line[i]; r.fits(u, &w.request) {
			require.Len(r, w.done, 1)
			require.Equal(r, u, (<-w.done).tuple)
			w.cancel()
			r.line = slices.Delete(r.line, i, i+1)
			r.inUse = append(r.inUse, u)
			return
		}
	}
	if delay > 0 {
		r.retired = append(r.retired, rested{u, now() + int64(delay)})
	}
}

func (r *reuser) finish() {
	for _, w := range r.line {
		w.cancel()
		<-w.done
	}
	for _, u := range r.inUse {
		require.True(r, r.pool.Release(u))
	}
	time.Sleep(time.Hour)
	isEmpty(r.T, r.pool)
}
