package tuple_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

// quotaModel is a Pool with quotas that is slow and obviously right: whatever happens, the first in order of arrival
// whom nothing stops is served, until everybody is stopped by something.
type quotaModel struct {
	*testing.T
	rng     *rand.Rand
	pool    *tuple.Pool
	sources []netip.Addr
	dsts    []netip.AddrPort
	held    map[tuple.Tuple]*share
	retired []tuple.Tuple // in the order in which they were
	line    []*waiting    // in order of arrival
}

// share is a tuple that is held.
type share struct {
	owner  string
	until  int64 // 0: in use; else when it comes free
	kernel bool  // it is retired for the kernel
	taken  bool  // others have it
}

type waiting struct {
	tuple.Request
	place
}

// stops returns the error that the pool must have for r now; nil if it must serve it.
func (m *quotaModel) stops(r tuple.Request) error {
	free := len(m.sources) * m.pool.Ports.Len()
	if r.Src.IsValid() {
		free = m.pool.Ports.Len()
	}
	var all, ofOwner, ofDst tally
	taken, next := 0, int64(never)
	for u, s := range m.held {
		all.count(s)
		if s.owner == r.Owner {
			ofOwner.count(s)
		}
		if u.Dst() != r.Dst {
			continue
		}
		ofDst.count(s)
		if s.taken {
			taken++
		}
		if s.until != 0 {
			next = min(next, s.until)
		}
		if !r.Src.IsValid() || r.Src == u.Src().Addr() {
			free--
		}
	}
	p := m.pool
	reusable := m.oldest(r).IsValid()
	quota := func(name tuple.Quota, most int, held tally) error {
		return &tuple.QuotaError{Dst: r.Dst, Quota: name, Max: most, InUse: held.inUse, Retired: held.retired}
	}
	switch {
	case p.MaxPerOwner > 0 && r.Owner != "" && ofOwner.all() >= p.MaxPerOwner:
		err := quota(tuple.QuotaPerOwner, p.MaxPerOwner, ofOwner)
		err.(*tuple.QuotaError).Owner = r.Owner
		return err
	case p.MaxTuples > 0 && all.all() >= p.MaxTuples:
		return quota(tuple.QuotaTuples, p.MaxTuples, all)
	case p.MaxPerDestination > 0 && ofDst.inUse >= p.MaxPerDestination:
		return quota(tuple.QuotaPerDestination, p.MaxPerDestination, tally{inUse: ofDst.inUse})
	case reusable:
	case free == 0:
		err := &tuple.ExhaustedError{Dst: r.Dst, InUse: ofDst.inUse, Retired: ofDst.retired, Taken: taken}
		if next != never {
			err.Next = time.Duration(next - now())
		}
		return err
	}
	return nil
}

// tally is how many tuples count in a quota: what others hold is nobody's.
type tally struct{ inUse, retired int }

func (n *tally) count(s *share) {
	switch {
	case s.taken:
	case s.until == 0:
		n.inUse++
	default:
		n.retired++
	}
}

func (n *tally) all() int { return n.inUse + n.retired }

// oldest returns what r may be given that is retired; not valid if nothing is.
func (m *quotaModel) oldest(r tuple.Request) tuple.Tuple {
	for _, u := range m.retired {
		if m.pool.ReuseRetired && u.Dst() == r.Dst && (!r.Src.IsValid() || r.Src == u.Src().Addr()) {
			return u
		}
	}
	return tuple.Tuple{}
}

func TestQuotasDoWhatTheModelDoes(t *testing.T) {
	for seed := range uint64(scaled(60)) {
		synctest.Test(t, func(t *testing.T) {
			rng := seeded(t, 60, seed)
			m := &quotaModel{T: t, rng: rng, held: map[tuple.Tuple]*share{}}
			m.pool = &tuple.Pool{
				Ports: alloc.RangeSet(5000, 5000+uint16(rng.IntN(4))), MaxTuples: []int{0, 3, 6}[rng.IntN(3)],
				MaxPerOwner: rng.IntN(4), MaxPerDestination: []int{0, 0, 2}[rng.IntN(3)], ReuseRetired: seed%3 == 0,
			}
			for _, prefix := range prefixes("192.0.2.0/32", "192.0.2.1/32")[:1+rng.IntN(2)] {
				m.pool.Sources = append(m.pool.Sources, prefix)
				m.sources = append(m.sources, prefix.Addr())
			}
			m.dsts = append(oneShard(m.pool, 2), dstN(1), dstN(2))
			for range 300 {
				m.step()
			}
			m.finish()
		})
	}
}

func (m *quotaModel) request() tuple.Request {
	r := tuple.Request{Dst: m.dsts[m.rng.IntN(1+m.rng.IntN(len(m.dsts)))], Owner: []string{"", "a", "b", "c"}[m.rng.IntN(4)]}
	if m.rng.IntN(4) == 0 {
		r.Src = m.sources[m.rng.IntN(len(m.sources))]
	}
	return r
}

func (m *quotaModel) step() {
	switch r := m.rng.IntN(20); {
	case r < 4:
		r := m.request()
		want := m.stops(r)
		u, err := m.pool.TryAcquireFor(r)
		if want != nil {
			require.Equal(m, want, err)
		} else {
			require.NoError(m, err)
			m.take(u, r)
		}
	case r < 11 && len(m.line) < 30:
		w := &waiting{Request: m.request()}
		ctx, cancel := context.WithCancel(m.Context())
		w.done, w.cancel = waitFor(ctx, m.pool, w.Request), cancel
		m.line = append(m.line, w)
	case r < 13 && len(m.line) > 0:
		m.cancel(m.rng.IntN(len(m.line)))
	case r < 17 && len(m.held) > 0:
		u := m.anyHeld()
		in := m.held[u].until == 0
		if m.rng.IntN(3) == 0 {
			m.others(u)
			break
		}
		if m.rng.IntN(2) == 0 {
			require.Equal(m, in, m.pool.Release(u))
			if in {
				m.free(u)
			}
			break
		}
		// No two come free at the same time, for then the order of shards would matter.
		until := now() + 1 + m.rng.Int64N(int64(20*time.Second))
		kernel := m.rng.IntN(2) == 0
		if kernel {
			require.Equal(m, in, only.RetireForKernel(m.pool, u, time.Duration(until-now())))
		} else {
			require.Equal(m, in, m.pool.Retire(u, time.Duration(until-now())))
		}
		if in {
			m.held[u].until, m.held[u].kernel = until, kernel
			m.retired = append(m.retired, u)
		}
	case r < 18:
		port := 5000 + uint16(m.rng.IntN(m.pool.Ports.Len()))
		u := tuple.KeyFrom(m.sources[0], m.dsts[0]).Tuple(port)
		if m.rng.IntN(2) == 0 {
			require.Equal(m, m.held[u] == nil, only.Take(m.pool, u, -1))
			if m.held[u] == nil {
				m.held[u] = &share{until: never, taken: true}
			}
			break
		}
		require.Equal(m, m.held[u] == nil, m.pool.Reserve(u))
		if m.held[u] == nil {
			m.held[u] = new(share)
		}
	default:
		m.sleep(time.Duration(m.rng.Int64N(int64(8 * time.Second))))
	}
	m.settle()
}

// others does with a tuple that is held what only package dialer does.
func (m *quotaModel) others(u tuple.Tuple) {
	s := m.held[u]
	early := s.kernel || s.taken
	switch m.rng.IntN(3) {
	case 0:
		d := time.Duration(-1)
		until := int64(never)
		if m.rng.IntN(2) == 0 {
			until = now() + 1 + m.rng.Int64N(int64(20*time.Second))
			d = time.Duration(until - now())
		}
		require.Equal(m, s.until == 0, only.Yield(m.pool, u, d))
		if s.until == 0 {
			m.held[u] = &share{until: until, taken: true}
		}
	case 1:
		owner := []string{"", "a", "b", "c"}[m.rng.IntN(4)]
		_, ok := only.Claim(m.pool, u, owner)
		require.Equal(m, early, ok)
		if early {
			m.free(u)
			m.held[u] = &share{owner: owner}
		}
	case 2:
		if m.rng.IntN(2) == 0 {
			require.Equal(m, early, only.Free(m.pool, u))
			if early {
				m.free(u)
			}
			break
		}
		keep := m.rng.IntN(2)
		held := func(v tuple.Tuple) bool { return int(v.Src().Port())%2 == keep }
		n := 0
		for v, s := range m.held {
			if v.Dst() == u.Dst() && (s.kernel || s.taken) && !held(v) {
				m.free(v)
				n++
			}
		}
		require.Equal(m, n, only.FreeUnless(m.pool, u.Dst(), 0, held))
	}
}

func (m *quotaModel) anyHeld() tuple.Tuple {
	var all []tuple.Tuple
	for u := range m.held {
		all = append(all, u)
	}
	slices.SortFunc(all, tuple.Tuple.Compare)
	return all[m.rng.IntN(len(all))]
}

func (m *quotaModel) take(u tuple.Tuple, r tuple.Request) {
	if m.held[u] != nil && m.held[u].until != 0 {
		require.Equal(m, m.oldest(r), u, "not the one that has rested longest")
		m.free(u)
	}
	require.Nil(m, m.held[u], "%v is held twice", u)
	require.True(m, u.Dst() == r.Dst && (!r.Src.IsValid() || r.Src == u.Src().Addr()), "%v is not what %v asks for", u, r)
	m.held[u] = &share{owner: r.Owner}
}

func (m *quotaModel) free(u tuple.Tuple) {
	delete(m.held, u)
	m.retired = slices.DeleteFunc(m.retired, func(v tuple.Tuple) bool { return u == v })
}

func (m *quotaModel) cancel(i int) {
	w := m.line[i]
	want := m.stops(w.Request)
	w.cancel()
	got := <-w.done
	require.ErrorIs(m, got.err, context.Canceled)
	switch want := want.(type) {
	case *tuple.QuotaError:
		want.Err = context.Canceled
	case *tuple.ExhaustedError:
		want.Err = context.Canceled
	}
	require.Equal(m, want, got.err)
	m.line = slices.Delete(m.line, i, i+1)
}

func (m *quotaModel) sleep(d time.Duration) {
	for end := now() + int64(d); now() < end; {
		next := end
		for _, s := range m.held {
			if s.until > now() {
				next = min(next, s.until)
			}
		}
		time.Sleep(time.Duration(next - now()))
		for u, s := range m.held {
			if s.until != 0 && s.until <= now() {
				m.free(u)
			}
		}
		m.settle()
	}
}

// settle checks that those who could be served have been, in order of arrival, and nobody else.
func (m *quotaModel) settle() {
	synctest.Wait()
	for i := 0; i < len(m.line); i++ {
		w := m.line[i]
		if m.stops(w.Request) != nil {
			continue
		}
		require.Len(m, w.done, 1, "nothing stops %v, who is number %d of %d and still waits", w.Request, i, len(m.line))
		got := <-w.done
		require.NoError(m, got.err)
		require.Equal(m, now(), got.at.UnixNano())
		m.take(got.tuple, w.Request)
		w.cancel()
		m.line = slices.Delete(m.line, i, i+1)
		i = -1 // from the first again
	}
	for i, w := range m.line {
		require.Empty(m, w.done, "%v is stopped by %v, and number %d of %d no longer waits", w.Request, m.stops(w.Request), i, len(m.line))
	}
	stats := m.pool.Stats()
	require.Equal(m, []int{len(m.held), len(m.line)}, []int{stats.InUse + stats.Retired + stats.Taken, stats.Waiting})
	require.NoError(m, m.pool.Check())
}

func (m *quotaModel) finish() {
	for len(m.line) > 0 {
		m.cancel(0)
	}
	for u, s := range m.held {
		require.Equal(m, s.until == 0, m.pool.Release(u))
		require.Equal(m, s.kernel || s.taken, only.Free(m.pool, u))
	}
	time.Sleep(time.Hour)
	isEmpty(m.T, m.pool)
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
				t.Logf("%-22s %-9s served %6d, mean wait %8v, longest %8v, %.2f of the mean", test.name, who, len(list), mean.Round(time.Millisecond), slices.Max(list).Round(time.Millisecond), float64(slices.Max(list))/float64(mean))
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
