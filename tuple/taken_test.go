package tuple_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

func TestWhatOthersHoldIsNobodysQuota(t *testing.T) {
	for i := range 3 {
		synctest.Test(t, func(t *testing.T) {
			p := []*tuple.Pool{{MaxTuples: 1}, {MaxPerOwner: 1}, {MaxPerDestination: 1}}[i]
			r := tuple.Request{Dst: web, Owner: "a"}
			mine := acquireFor(t, p, r)
			_, err := p.TryAcquireFor(r)
			require.ErrorIs(t, err, tuple.ErrQuota)
			first, second := waitFor(t.Context(), p, r), waitFor(t.Context(), p, r)
			require.True(t, only.Yield(p, mine, -1))
			synctest.Wait()
			require.Len(t, first, 1, "the quota is given back at once")
			require.Empty(t, second, "and only once")
			for i := range 10 {
				require.True(t, only.Take(p, tuple.KeyFrom(netip.IPv4Unspecified(), web).Tuple(uint16(2000+i)), -1))
			}
			require.True(t, p.Release((<-first).tuple))
			synctest.Wait()
			require.NoError(t, (<-second).err)
			s := p.Stats()
			require.Equal(t, []int{1, 0, 11}, []int{s.InUse, s.Retired, s.Taken})
			require.NoError(t, p.Check())
		})
	}
}

// If an owner claims a tuple that another owner retired, it no longer counts for that owner, and a waiter of that owner
// is served.
func TestClaimServesTheOwnerWhoseTupleItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &tuple.Pool{MaxPerOwner: 1}
		u := acquireFor(t, p, tuple.Request{Dst: web, Owner: "a"})
		require.True(t, only.RetireForKernel(p, u, time.Hour))
		waits := waitFor(t.Context(), p, tuple.Request{Dst: web6, Owner: "a"})
		was, ok := only.Claim(p, u, "b")
		require.Equal(t, []any{tuple.Retired, true}, []any{was, ok})
		synctest.Wait()
		require.NoError(t, (<-waits).err)
		_, err := p.TryAcquireFor(tuple.Request{Dst: web, Owner: "b"})
		require.ErrorIs(t, err, tuple.ErrQuota)
		require.NoError(t, p.Check())
	})
}

func TestTakenTuplesAreNeverReused(t *testing.T) {
	p := &tuple.Pool{ReuseRetired: true, Ports: alloc.RangeSet(5000, 5009)}
	all := fill(t, p, web)
	for i, u := range all[1:] {
		require.True(t, only.Yield(p, u, time.Duration(i-3)*time.Hour)) // below 0: without an end; 0: free at once
	}
	require.True(t, only.RetireForKernel(p, all[0], time.Hour))
	got := fill(t, p, web)
	require.ElementsMatch(t, []tuple.Tuple{all[0], all[4]}, got)
	require.NoError(t, p.Check())
}

// A tuple that a user retired, by Retire or RetireAs, stays retired although the kernel does not hold it.
func TestACoolDownByPolicyDoesNotEndEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, reuse := range []bool{false, true} {
			p := &tuple.Pool{ReuseRetired: reuse}
			retired, ending, kernel := acquire(t, p, web), acquire(t, p, web), acquire(t, p, web)
			require.True(t, p.Retire(retired, time.Minute))
			require.True(t, p.RetireAs(ending, tuple.ActiveClose))
			require.True(t, only.RetireForKernel(p, kernel, time.Minute))
			for _, u := range []tuple.Tuple{retired, ending} {
				was, ok := only.Claim(p, u, "")
				require.Equal(t, []any{tuple.Retired, false}, []any{was, ok})
				require.False(t, only.Free(p, u))
			}
			require.Equal(t, 1, only.FreeUnless(p, web, 0, func(tuple.Tuple) bool { return false }))
			require.Equal(t, []tuple.State{tuple.Retired, tuple.Retired, tuple.Free},
				[]tuple.State{p.State(retired), p.State(ending), p.State(kernel)})
			time.Sleep(time.Minute)
			require.Zero(t, p.Stats())
			require.NoError(t, p.Check())
		}
	})
}

// FreeUnless does not free tuples that were retired or taken after the kernel was asked.
func TestFreeUnlessKnowsOnlyWhatIsOlderThanTheAnswer(t *testing.T) {
	for _, reuse := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			p := &tuple.Pool{Ports: alloc.RangeSet(5000, 5003), ReuseRetired: reuse}
			all := hold(t, p, web, nil, 4)
			require.True(t, only.RetireForKernel(p, all[0], time.Hour))
			require.True(t, only.Yield(p, all[1], -1))
			time.Sleep(time.Second) // the kernel is asked
			require.True(t, only.RetireForKernel(p, all[2], time.Minute))
			require.True(t, only.Yield(p, all[3], time.Minute))
			time.Sleep(time.Second)
			require.Equal(t, 2, only.FreeUnless(p, web, time.Second+1, func(tuple.Tuple) bool { return false }))
			for i, want := range []tuple.State{tuple.Free, tuple.Free, tuple.Retired, tuple.Taken} {
				require.Equal(t, want, p.State(all[i]), i)
			}
			require.NoError(t, p.Check())
		})
	}
}

// The waiters get the tuples that become free, in order of arrival.
func TestFreeUnlessGivesWhatItFreesToThoseWhoWait(t *testing.T) {
	for _, quota := range []int{0, 4} {
		synctest.Test(t, func(t *testing.T) {
			p := &tuple.Pool{Ports: alloc.RangeSet(5000, 5003), MaxTuples: quota}
			all := hold(t, p, web, nil, 4)
			for i, u := range all {
				if i < 2 {
					require.True(t, only.RetireForKernel(p, u, time.Hour))
				} else {
					require.True(t, only.Yield(p, u, -1))
				}
			}
			var line []<-chan result
			for range 3 {
				line = append(line, wait(t.Context(), p, web))
			}
			require.Equal(t, 3, only.FreeUnless(p, web, 0, func(u tuple.Tuple) bool { return u == all[1] }))
			synctest.Wait()
			var got []tuple.Tuple
			for _, done := range line {
				r := <-done
				require.NoError(t, r.err)
				got = append(got, r.tuple)
			}
			require.ElementsMatch(t, []tuple.Tuple{all[0], all[2], all[3]}, got)
			require.NoError(t, p.Check())
		})
	}
}

// A pool in which nothing comes free by itself runs no timer, even if somebody waits.
func TestWaitersGetATakenTupleWhenItsTimeEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, u := onePort(t)
		require.True(t, only.Yield(p, u, -1))
		done := wait(t.Context(), p, web)
		require.Zero(t, p.Timers())
		require.True(t, only.Free(p, u))
		require.NoError(t, (<-done).err)

		require.True(t, only.Yield(p, u, time.Minute))
		start := time.Now()
		r := <-wait(t.Context(), p, web)
		require.NoError(t, r.err)
		require.Equal(t, time.Minute, r.at.Sub(start))
		require.NoError(t, p.Check())
	})
}

func TestUsageTellsWhatOthersHaveFromWhatIsTheirs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &tuple.Pool{Sources: prefixes("192.0.2.1/32"), Ports: alloc.RangeSet(5000, 5009)}
		held := hold(t, p, web, nil, 4)
		require.True(t, only.Yield(p, held[0], -1))
		require.True(t, only.Yield(p, held[1], time.Hour))
		require.True(t, p.Retire(held[2], time.Minute))
		want := tuple.Usage{Dst: web, InUse: 1, Retired: 1, Taken: 2, HighWater: 4, Free: 6, At: time.Now()}
		require.Equal(t, want, p.Usage(web))
		require.Equal(t, tuple.Stats{InUse: 1, Retired: 1, Taken: 2, Destinations: 1}, p.Stats())
		require.Equal(t, 4, p.HeldFrom(netip.MustParsePrefix("192.0.2.0/24")))
		require.True(t, p.Contains(held[0]))
		require.False(t, p.Reserve(held[0]) || p.Release(held[0]) || p.Retire(held[0], time.Hour))
		require.Len(t, fill(t, p, web), 6)
		_, err := p.TryAcquire(web)
		require.Equal(t, &tuple.ExhaustedError{Dst: web, InUse: 7, Retired: 1, Taken: 2, Next: time.Minute}, err)

		time.Sleep(time.Minute)
		acquire(t, p, web)
		_, err = p.TryAcquire(web)
		require.Equal(t, &tuple.ExhaustedError{Dst: web, InUse: 8, Taken: 2, Next: 59 * time.Minute}, err)
		time.Sleep(time.Hour)
		acquire(t, p, web)
		_, err = p.TryAcquire(web)
		require.Equal(t, &tuple.ExhaustedError{Dst: web, InUse: 9, Taken: 1}, err, "nothing has a time")
	})
}

func TestHighWaterIsNotThatOfOthers(t *testing.T) {
	p := &tuple.Pool{}
	for i := range 10 {
		require.True(t, only.Take(p, tuple.KeyFrom(netip.IPv4Unspecified(), web).Tuple(uint16(2000+i)), -1))
	}
	require.Zero(t, p.Usage(web).HighWater)
	hold(t, p, web, hold(t, p, web, nil, 3), 0)
	require.Zero(t, p.Usage(web).HighWater, "it begins anew though others have some")
	_, ok := only.Claim(p, tuple.KeyFrom(netip.IPv4Unspecified(), web).Tuple(2000), "")
	require.True(t, ok)
	require.Equal(t, 1, p.Usage(web).HighWater)
}

// Taken tuples stay taken while sources and ports come and go.
func TestTakenTuplesOutliveTheirSource(t *testing.T) {
	p := &tuple.Pool{Sources: prefixes("192.0.2.1/32", "192.0.2.2/32")}
	held := hold(t, p, web, nil, 4)
	for _, u := range held {
		require.True(t, only.Yield(p, u, -1))
	}
	for _, list := range []string{"203.0.113.1/32", "192.0.2.2/32", "192.0.2.0/30"} {
		require.NoError(t, p.SetSources(tuple.Source{Prefix: netip.MustParsePrefix(list)}))
		require.NoError(t, only.SetPorts(p, alloc.RangeSet(1000, held[0].Src().Port())))
		require.NoError(t, p.Check())
		for _, u := range held {
			require.Equal(t, tuple.Taken, p.State(u))
		}
		require.Equal(t, 4, p.HeldFrom(netip.MustParsePrefix("192.0.2.0/24")))
	}
	require.Equal(t, 4, only.FreeUnless(p, web, 0, func(tuple.Tuple) bool { return false }))
	isEmpty(t, p)
}

// Methods accept a tuple as it was handed out. FreeUnless calls held with the tuple as All names it.
func TestFreeUnlessNamesTuplesAsAllDoes(t *testing.T) {
	for _, scope := range []func(netip.AddrPort) netip.AddrPort{
		nil,
		func(netip.AddrPort) netip.AddrPort { return web },
	} {
		p := &tuple.Pool{Scope: scope}
		u := acquire(t, p, dstN(1))
		from := func(src string) tuple.Tuple {
			return tuple.From(netip.AddrPortFrom(netip.MustParseAddr(src), u.Src().Port()), dstN(1))
		}
		require.True(t, only.Yield(p, from("192.0.2.1"), -1))
		var want, asked []tuple.Tuple
		for u := range p.All() {
			want = append(want, u)
		}
		require.Zero(t, only.FreeUnless(p, dstN(1), 0, func(u tuple.Tuple) bool {
			asked = append(asked, u)
			return true
		}))
		require.Equal(t, want, asked)
		require.True(t, only.Free(p, from("192.0.2.2")))
		isEmpty(t, p)
	}
}

func TestTraceTellsTheEndOfAUseThatOthersTake(t *testing.T) {
	p := &tuple.Pool{Ports: alloc.RangeSet(5000, 5000)}
	u := acquire(t, p, web)
	said := traced(p)
	const name = "0.0.0.0:5000->198.51.100.7:443"
	require.True(t, only.Yield(p, u, time.Hour))
	require.Equal(t, []string{"released " + name}, said())
	_, ok := only.Claim(p, u, "")
	require.True(t, ok)
	require.Equal(t, []string{"acquired " + name + " 0s"}, said())
	require.True(t, only.RetireForKernel(p, u, time.Hour))
	require.Equal(t, []string{"retired " + name + " 1h0m0s"}, said())
	require.True(t, only.Free(p, u))
	require.True(t, only.Take(p, u, -1))
	require.Equal(t, 1, only.FreeUnless(p, web, 0, func(tuple.Tuple) bool { return false }))
	require.Empty(t, said(), "no use began or ended")
}

func TestWatchTellsOfUsesThatEndForOthers(t *testing.T) {
	p := &tuple.Pool{}
	kernel, others, stays := acquire(t, p, web), acquire(t, p, web), acquire(t, p, web)
	w := p.Watch(slices.Values([]tuple.Tuple{kernel, others, stays}))
	defer w.Stop()
	require.True(t, only.RetireForKernel(p, kernel, time.Hour))
	require.True(t, only.Yield(p, others, -1))
	require.True(t, w.Ended(kernel) && w.Ended(others))
	require.False(t, w.Ended(stays))
}

// Tuples that are freed each at another time leave nothing in memory.
func TestFreeUnlessLeavesNothingBehind(t *testing.T) {
	for _, reuse := range []bool{false, true} {
		p := &tuple.Pool{ReuseRetired: reuse}
		rng := seeded(t, 63, 0)
		for i := range scaled(5000) {
			u := acquire(t, p, []netip.AddrPort{web, dstN(1)}[i%2])
			switch i % 3 {
			case 0:
				require.True(t, p.Retire(u, time.Hour+time.Duration(rng.IntN(50))))
			case 1:
				require.True(t, only.RetireForKernel(p, u, time.Hour+time.Duration(rng.IntN(1e9))))
			default:
				require.True(t, only.Yield(p, u, time.Hour+time.Duration(rng.IntN(1e9))))
			}
		}
		for _, dst := range []netip.AddrPort{web, dstN(1)} {
			was := p.Usage(dst)
			n := only.FreeUnless(p, dst, 0, func(u tuple.Tuple) bool { return u.Src().Port()%4 == 0 })
			n += only.FreeUnless(p, dst, 0, func(u tuple.Tuple) bool { return false })
			is := p.Usage(dst)
			require.Zero(t, is.Taken)
			require.Equal(t, was.Retired+was.Taken-n, is.Retired)
			require.NoError(t, p.Check())
		}
	}
}

// Many goroutines, while sources and ports change: each use ends once, and no tuple is held twice.
func TestOthersComeAndGoWhileThePoolIsInUse(t *testing.T) {
	for _, quota := range []int{0, 40} {
		p := &tuple.Pool{Sources: prefixes("192.0.2.0/31"), MaxPerOwner: quota}
		sets := []alloc.Set{alloc.RangeSet(5000, 5029), alloc.RangeSet(5010, 5049), alloc.RangeSet(5000, 5049)}
		all := &tuple.Pool{Sources: p.Sources, Ports: sets[2]}
		dsts := []netip.AddrPort{dstN(0), dstN(1)}
		users := newOwners(all, 2, dsts...)
		require.NoError(t, only.SetPorts(p, sets[0]))
		crowd(t, 8, func(who int32, rng *rand.Rand) {
			var mine []tuple.Tuple
			begin := func(u tuple.Tuple) {
				assert.True(t, users.claim(u, who), "%v is held twice", u)
				mine = append(mine, u)
			}
			for range scaled(5000) {
				dst := dsts[rng.IntN(2)]
				src := netip.AddrFrom4([4]byte{192, 0, 2, byte(rng.IntN(2))})
				named := tuple.KeyFrom(src, dst).Tuple(uint16(5000 + rng.IntN(50)))
				switch n := rng.IntN(20); {
				case n < 8:
					if u, err := p.TryAcquireFor(tuple.Request{Dst: dst, Owner: "a"}); err == nil {
						begin(u)
					}
				case n < 9:
					if _, ok := only.Claim(p, named, "b"); ok {
						begin(named)
					}
				case n < 10:
					only.Take(p, named, time.Duration(rng.IntN(1e6)-5e5))
					p.Contains(named)
				case n < 11:
					only.FreeUnless(p, dst, 0, func(u tuple.Tuple) bool { return u.Src().Port()%3 == 0 })
				case n < 12 && who == 1:
					assert.NoError(t, only.SetPorts(p, sets[rng.IntN(3)]))
				case len(mine) > 0:
					i := rng.IntN(len(mine))
					u := mine[i]
					mine = slices.Delete(mine, i, i+1)
					assert.True(t, users.yield(u, who) && p.Contains(u))
					d := time.Duration(rng.IntN(1e6))
					assert.True(t, []func() bool{
						func() bool { return p.Release(u) },
						func() bool { return only.RetireForKernel(p, u, d) },
						func() bool { return only.Yield(p, u, d-5e5) },
					}[rng.IntN(3)]())
				}
			}
			for _, u := range mine {
				assert.True(t, users.yield(u, who) && p.Release(u))
			}
		})
		require.NoError(t, p.Check())
		for _, dst := range dsts {
			only.FreeUnless(p, dst, 0, func(tuple.Tuple) bool { return false })
		}
		isEmpty(t, p)
	}
}
