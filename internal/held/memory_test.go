package held_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/internal/held"
	"github.com/ephemera-go/ephemera/internal/liveheap"
)

func skipRace(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes sync.Pool forget, and takes memory of its own")
	}
}

// A slot takes 32 or 48 bytes, and the table is full to between a half and three quarters: so 43 to 64 bytes, or 64 to
// 96, and on average over how many destinations there are, up to 100,000 of them, 52.6 and 79.
func TestDestinationWithOneTupleTakesFewBytes(t *testing.T) {
	skipRace(t)
	for name, test := range map[string]struct {
		dst           func(i int) netip.AddrPort
		most, average float64
	}{"IPv4": {dstN, 64, 53}, "IPv6": {dst6N, 96, 79.5}} {
		t.Run(name, func(t *testing.T) {
			s := newSide(held.RoundRobin, 1, span(1024, 64512), "192.0.2.0/24", "2001:db8::/64")
			before, sum, samples := liveheap.Bytes(), 0.0, 0
			for i := range 100_000 {
				s.acquire(t, test.dst(i))
				if n := i + 1; n >= 40_000 && n%12000 == 4000 { // more than two growths
					each := float64(liveheap.Bytes()-before) / float64(n)
					require.LessOrEqual(t, each, test.most+0.2, "%d destinations", n)
					sum += each
					samples++
				}
			}
			t.Logf("%.1f bytes a destination", sum/float64(samples))
			require.LessOrEqual(t, sum/float64(samples), test.average)
			require.Equal(t, 100_000, s.Len())
			runtime.KeepAlive(s)
		})
	}
}

func TestEmptyTableGivesMemoryBack(t *testing.T) {
	skipRace(t)
	for name, test := range map[string]struct {
		dst  func(i int) netip.AddrPort
		n    int
		each int // tuples a destination
		ends func(s *side, dst netip.AddrPort, h held.Hold)
	}{
		"IPv4":    {dstN, 30_000, 1, nil},
		"IPv6":    {dst6N, 30_000, 1, nil},
		"large":   {dstN, 2_000, 7, nil},
		"retired": {dst6N, 2_000, 5, func(s *side, dst netip.AddrPort, h held.Hold) { s.find(dst).Retire(h) }},
		"taken": {dstN, 2_000, 1, func(s *side, dst netip.AddrPort, h held.Hold) {
			s.find(dst).Yield(h, &s.rules)
		}},
		"one, all sources": {func(int) netip.AddrPort { return web6 }, 20_000, 1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSide(held.RoundRobin, 1, span(1024, 64512), "192.0.2.0/24", "2001:db8::/64")
			list := make([]held.Hold, 0, test.n*test.each)
			before := liveheap.Bytes()
			for i := range cap(list) {
				h := s.acquire(t, test.dst(i/test.each))
				if test.ends != nil {
					test.ends(s, test.dst(i/test.each), h)
				}
				list = append(list, h)
			}
			full := liveheap.Bytes() - before
			for i, h := range list {
				s.free(test.dst(i/test.each), h)
			}
			left := liveheap.Bytes() - before
			t.Logf("%d bytes, %d when empty", full, left)
			require.Less(t, left, 16<<10)
			require.Zero(t, s.Len())
			s.check(t)
			runtime.KeepAlive(s)
			runtime.KeepAlive(list)
		})
	}
}

// One destination that many sources served, and that keeps one tuple or two, does not keep the memory of all.
func TestDestinationThatHoldsLessGivesMemoryBack(t *testing.T) {
	skipRace(t)
	for _, policy := range policies {
		for _, kept := range []int{1, 2} {
			t.Run(fmt.Sprintf("policy=%d/kept=%d", policy, kept), func(t *testing.T) {
				s := newSide(policy, 1, span(2000, 5), "10.0.0.0/12")
				list := make([]held.Hold, 20_000)
				before := liveheap.Bytes()
				for i := range list {
					list[i] = s.acquire(t, web)
				}
				full := liveheap.Bytes() - before
				for _, h := range list[kept:] {
					s.free(web, h)
				}
				left := liveheap.Bytes() - before
				t.Logf("%d bytes, %d for the last", full, left)
				require.Less(t, left, 16<<10)
				require.Equal(t, kept, s.find(web).Counts().InUse)
				s.check(t)
				runtime.KeepAlive(list)
			})
		}
	}
}

func TestSteadyStateDoesNotAllocate(t *testing.T) {
	skipRace(t)
	for _, policy := range policies {
		for _, stay := range []int{1, 3, 10, 200} {
			s := newSide(policy, 1, span(3000, 400), "192.0.2.0/30", "2001:db8::/126")
			dsts := []netip.AddrPort{web, web6, dstN(1), dst6N(1), dstN(2)}
			a := *s.ask(web)
			a.Owner = "owner"
			var ring [1000]struct { // of those that stay
				dst netip.AddrPort
				h   held.Hold
			}
			i := 0
			step := func() {
				dst := dsts[i%len(dsts)]
				a.Key = keyOf(dst)
				a.Hash, a.Rand = a.Key.Hash(s.rules.Hash), s.rules.Rand()
				oldest := &ring[i%(stay*len(dsts))]
				if oldest.h != 0 {
					s.free(oldest.dst, oldest.h)
				}
				h, ok := s.Find(a.Key, a.Hash).Acquire(&a, &s.rules)
				if !ok {
					panic("nothing is free")
				}
				oldest.dst, oldest.h = dst, h
				if i%3 == 0 {
					s.find(dst).Retire(h)
				}
				i++
			}
			for range 20_000 {
				step()
			}
			require.Zero(t, testing.AllocsPerRun(5000, step), "policy %d, %d stay", policy, stay)
			s.check(t)
		}
	}
}

// A destination that comes and goes, large and small, takes its memory from the one before.
func TestComingAndGoingDoesNotAllocate(t *testing.T) {
	skipRace(t)
	s := newSide(held.RoundRobin, 1, span(3000, 400), "192.0.2.0/32")
	a := *s.ask(web)
	var mine [5]held.Hold
	for _, n := range []int{1, 3, 5} {
		step := func() {
			for i := range mine[:n] {
				mine[i], _ = s.Find(a.Key, a.Hash).Acquire(&a, &s.rules)
			}
			for _, h := range mine[:n] {
				s.Find(a.Key, a.Hash).Free(h, &s.rules)
			}
		}
		step()
		require.Zero(t, testing.AllocsPerRun(2000, step), "%d tuples", n)
	}
	require.Zero(t, s.Len())
}
