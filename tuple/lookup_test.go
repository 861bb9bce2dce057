package tuple_test

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/internal/liveheap"
	"github.com/ephemera-go/ephemera/tuple"
)

// Contains usually takes no lock. It must see each tuple that is held all the time, and none that never is. Meanwhile
// slots of the same shard come, go and move. Its own destination gets more tuples than a slot has cells, and bits
// instead of a list, and loses them again.
func TestContainsSeesWhatIsHeldAllTheWhile(t *testing.T) {
	p := &tuple.Pool{Sources: prefixes("192.0.2.0/31", "2001:db8::/127")}
	var held, never []tuple.Tuple
	var dsts []netip.AddrPort
	for i := range 40 {
		dst := dstN(i)
		if i%2 == 1 {
			dst = dst6N(i)
		}
		dsts = append(dsts, dst)
		for range 1 + i%4*i%7 { // in cells, and in large destinations of both sources
			held = append(held, acquire(t, p, dst))
		}
		u := held[len(held)-1]
		port := uint16(100) // not one of the pool's
		never = append(never, tuple.From(netip.AddrPortFrom(u.Src().Addr(), port), dst))
		never = append(never, tuple.From(u.Src(), netip.AddrPortFrom(dst.Addr(), 9)))
	}
	var stop atomic.Bool
	var looks, quick atomic.Int64
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for !stop.Load() {
				for _, u := range held {
					if !p.Contains(u) {
						assert.Fail(t, "a tuple that is held was not found", "%v", u)
						return
					}
					if _, known := p.ContainsQuickly(u); known {
						quick.Add(1)
					}
				}
				for _, u := range never {
					if p.Contains(u) {
						assert.Fail(t, "a tuple was found that never was held", "%v", u)
						return
					}
				}
				looks.Add(1)
			}
		})
	}
	var writers sync.WaitGroup
	for w := range 2 {
		writers.Go(func() {
			rng := rand.New(rand.NewPCG(40, uint64(w)))
			var mine []tuple.Tuple
			for i := 0; i < scaled(60_000) || looks.Load() < 20; i++ {
				grow := i/3000%2 == 0
				switch {
				case grow && rng.IntN(4) > 0 && len(mine) < 4000, len(mine) == 0:
					dst := dsts[rng.IntN(len(dsts))]
					switch rng.IntN(3) {
					case 0: // comes and goes, and moves the others
						dst = dstN(1000 + rng.IntN(100_000))
					case 1:
						dst = dst6N(1000 + rng.IntN(100_000))
					}
					u, err := p.TryAcquire(dst)
					if err != nil {
						assert.NoError(t, err)
						return
					}
					mine = append(mine, u)
				default:
					j := rng.IntN(len(mine))
					if !p.Retire(mine[j], time.Duration(rng.IntN(2))*time.Microsecond) {
						assert.Fail(t, "not in use", "%v", mine[j])
						return
					}
					mine[j] = mine[len(mine)-1]
					mine = mine[:len(mine)-1]
				}
			}
			for _, u := range mine {
				if !p.Release(u) {
					assert.Fail(t, "not in use", "%v", u)
				}
			}
		})
	}
	writers.Wait()
	stop.Store(true)
	readers.Wait()
	require.Positive(t, quick.Load(), "each look took the lock")
	time.Sleep(time.Millisecond) // what was retired is free
	require.Equal(t, len(held), p.Stats().InUse)
	require.NoError(t, p.Check())
}

func TestContainsKnowsWithoutTheLockWhatLiesStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &tuple.Pool{Sources: prefixes("192.0.2.0/31")}
		lanes, first, dense := acquire(t, p, dstN(0)), acquire(t, p, dstN(1)), acquire(t, p, dstN(2))
		for range 4 {
			acquire(t, p, dstN(1))
		}
		for range 300 {
			acquire(t, p, dstN(2))
		}
		for _, u := range []tuple.Tuple{lanes, first, dense} {
			held, known := p.ContainsQuickly(u)
			require.True(t, held && known, "%v", u)
			gone := tuple.From(netip.AddrPortFrom(u.Src().Addr(), 1), u.Dst())
			held, known = p.ContainsQuickly(gone)
			require.True(t, !held && known, "%v", gone)

			require.True(t, p.Retire(u, time.Minute))
			held, known = p.ContainsQuickly(u)
			require.True(t, held && known, "%v is retired", u)
		}
		time.Sleep(time.Minute)
		for _, u := range []tuple.Tuple{lanes, first, dense} {
			held, known := p.ContainsQuickly(u)
			require.False(t, held && known, "%v has cooled down", u)
			require.False(t, p.Contains(u))
		}
	})
}

// Small tables with many destinations: some searches wrap at the end of the table, and some of the slots that move are
// those of large destinations.
func TestManyDestinationsComeAndGo(t *testing.T) {
	rng := seeded(t, 41, 1)
	p := new(tuple.Pool)
	held := map[tuple.Tuple]bool{}
	var list []tuple.Tuple
	add := func(u tuple.Tuple) {
		require.False(t, held[u], "held twice")
		held[u] = true
		list = append(list, u)
	}
	wrapped := 0
	for round, size := range []int{200, 3000, scaled(30_000), 2000, 5000, 0} {
		for step := 0; len(list) != size; step++ {
			if len(list) < size && rng.IntN(4) > 0 || len(list) == 0 {
				i := rng.IntN(size)
				dst := dstN(i)
				if i%3 == 0 {
					dst = dst6N(i)
				}
				add(acquire(t, p, dst))
				for i%17 == 0 && rng.IntN(4) > 0 {
					add(acquire(t, p, dst))
				}
			} else {
				j := rng.IntN(len(list))
				require.True(t, p.Release(list[j]))
				delete(held, list[j])
				list[j] = list[len(list)-1]
				list = list[:len(list)-1]
			}
			if size < len(list) && len(list) < size+5 { // several may come at a time
				size = len(list)
			}
		}
		require.NoError(t, p.Check(), "round %d", round)
		wrapped += p.Wrapped()
		for u := range held {
			if !p.Contains(u) {
				require.Fail(t, "lost", "%v", u)
			}
		}
		require.Equal(t, len(held), p.Stats().InUse)
	}
	require.Positive(t, wrapped, "no entry lay beyond the end of its table")
}

// The memory figures of the benchmarks are upper bounds. The worst case is a table that has just grown.
func TestDestinationOfOneTupleTakesAFewWords(t *testing.T) {
	for _, test := range []struct {
		name string
		dst  func(i int) netip.AddrPort
		most int
	}{{"IPv4", dstN, 96}, {"IPv6", dst6N, 128}} {
		for _, n := range []int{20_000, 26_000, 33_000} {
			p := new(tuple.Pool)
			require.Zero(t, p.Stats())
			before := liveheap.Bytes()
			for i := range n {
				acquire(t, p, test.dst(i))
			}
			each := float64(liveheap.Bytes()-before) / float64(n)
			require.LessOrEqual(t, each, float64(test.most), "%s, %d destinations", test.name, n)
			require.Equal(t, n, p.Stats().Destinations)
		}
	}
}

func TestFullDestinationTakesLittleMoreThanABitPerTuple(t *testing.T) {
	p := new(tuple.Pool)
	require.Zero(t, p.Stats())
	before := liveheap.Bytes()
	for i := range 20 {
		for port := range uint16(64512) {
			p.Reserve(tuple.From(netip.AddrPortFrom(netip.IPv4Unspecified(), 1024+port), dstN(i)))
		}
	}
	bits := 8 * float64(liveheap.Bytes()-before) / (20 * 64512)
	require.LessOrEqual(t, bits, 1.3)
	require.Equal(t, 20*64512, p.Stats().InUse)
}

// The source after the last one is next, in whatever form the destination is and however often that changes.
func TestTurnsOutliveTheFormOfADestination(t *testing.T) {
	for _, ports := range []uint16{2, 3, 4, 5, 200} { // with up to 3 the tuples are not in cells
		rng := seeded(t, 42, uint64(ports))
		p := &tuple.Pool{Sources: prefixes("192.0.2.0/30"), Ports: alloc.RangeSet(5000, 5000+ports-1)}
		keep := acquire(t, p, web)
		last := keep.Src().Addr()
		var held []tuple.Tuple
		for range 2000 {
			if len(held) > rng.IntN(7) {
				j := rng.IntN(len(held))
				require.True(t, p.Release(held[j]))
				held[j] = held[len(held)-1]
				held = held[:len(held)-1]
				continue
			}
			if rng.IntN(8) == 0 { // Reserve does not change whose turn it is
				src := netip.AddrFrom4([4]byte{192, 0, 2, byte(rng.IntN(4))})
				u := tuple.KeyFrom(src, web).Tuple(5000 + uint16(rng.IntN(int(ports))))
				if p.Reserve(u) {
					held = append(held, u)
				}
				continue
			}
			u, err := p.TryAcquire(web)
			if err != nil {
				continue
			}
			held = append(held, u)
			counts := map[netip.Addr]int{keep.Src().Addr(): 1}
			for _, v := range held[:len(held)-1] {
				counts[v.Src().Addr()]++
			}
			for {
				if last = last.Next(); last == netip.MustParseAddr("192.0.2.4") {
					last = netip.MustParseAddr("192.0.2.0")
				}
				if counts[last] < int(ports) {
					break
				}
			}
			require.Equal(t, last, u.Src().Addr(), "%d ports", ports)
			require.NoError(t, p.Check())
		}
	}
}

// A slot moves when the one before it is removed. A reader that looked at the new place before the move, and at the old
// place after it, must notice.
func TestContainsSeesAnEntryThatMoves(t *testing.T) {
	p := new(tuple.Pool)
	at := func(i int) tuple.Tuple { return tuple.From(netip.AddrPortFrom(netip.IPv4Unspecified(), 5000), dstN(i)) }
	before, i := at(0), 1
	for !p.SameHome(before, at(i)) {
		i++
	}
	moves := at(i)
	var phase atomic.Uint64 // odd while moves is held
	var stop atomic.Bool
	var reader sync.WaitGroup
	seen := 0
	reader.Go(func() {
		for !stop.Load() {
			from := phase.Load()
			held := p.Contains(moves)
			if from%2 == 1 && phase.Load() == from {
				seen++
				if !held {
					assert.Fail(t, "an entry was not found while it moved")
					return
				}
			}
		}
	})
	for range scaled(400_000) {
		require.True(t, p.Reserve(before) && p.Reserve(moves))
		phase.Add(1)
		require.True(t, p.Release(before))
		phase.Add(1)
		require.True(t, p.Release(moves))
	}
	stop.Store(true)
	reader.Wait()
	t.Logf("looked at it %d times", seen)
}

// The first source of a large destination becomes empty, and another one takes its place. A reader without the lock
// that saw the name of the first must not answer from the ports of the other.
func TestContainsDoesNotAnswerForAnotherSource(t *testing.T) {
	p := &tuple.Pool{Sources: prefixes("192.0.2.0/30")}
	at := func(source byte, port uint16) tuple.Tuple {
		return tuple.KeyFrom(netip.AddrFrom4([4]byte{192, 0, 2, source}), web).Tuple(port)
	}
	a, b, never := at(0, 6000), at(1, 5000), at(0, 5000)
	for _, u := range []tuple.Tuple{a, at(2, 1024), at(2, 1025), at(2, 1026), at(2, 1027)} {
		require.True(t, p.Reserve(u))
	}
	require.NoError(t, p.Check())
	var stop atomic.Bool
	var reader sync.WaitGroup
	reader.Go(func() {
		for looks := 0; !stop.Load(); looks++ {
			if p.Contains(never) {
				assert.Fail(t, "a tuple was found that never was held", "look %d", looks)
				stop.Store(true)
			}
		}
	})
	for i := 0; i < scaled(400_000) && !stop.Load(); i++ {
		if !p.Release(a) || !p.Reserve(b) || !p.Release(b) || !p.Reserve(a) {
			assert.Fail(t, "wrong")
			break
		}
	}
	stop.Store(true)
	reader.Wait()
}
