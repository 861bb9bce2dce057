package tuple

import (
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/ephemera-go/ephemera/tuple"
)

// lookup is a tuple to look up.
type lookup struct {
	t    tuple.Tuple
	held bool
}

// load is a contender and the operations to do with it. It holds one tuple towards each of n destinations. If n is
// smaller than 1,000, it holds 1,000 tuples. The operations are in random order, one after the other in memory, so that
// reading them costs little beside the contender.
type load struct {
	holder
	held    []tuple.Tuple
	dsts    []netip.AddrPort // once for each tuple held
	lookups []lookup         // half of them held; drawLookups makes them
}

func newLoad(h holder, n int) *load {
	tuples := max(n, 1000)
	l := &load{holder: h, held: make([]tuple.Tuple, tuples), dsts: make([]netip.AddrPort, tuples)}
	for i := range tuples {
		l.dsts[i] = dst4(i % n)
		l.held[i] = h.Acquire(l.dsts[i])
	}
	rand.Shuffle(tuples, func(i, j int) { l.dsts[i], l.dsts[j] = l.dsts[j], l.dsts[i] })
	return l
}

// least is the smallest number of lookups: more than a branch predictor can learn, and few enough for the caches.
const least = 8000

func (l *load) drawLookups() {
	taken := make(map[tuple.Tuple]bool, len(l.held))
	for _, u := range l.held {
		taken[u] = true
	}
	n := max(2*len(l.held), least)
	l.lookups = make([]lookup, 0, n)
	for len(l.lookups) < n {
		for _, u := range l.held {
			free := u
			for taken[free] {
				free = u.Key().Tuple(uint16(first + rand.Uint32N(count)))
			}
			l.lookups = append(l.lookups, lookup{u, true}, lookup{free, false})
		}
	}
	rand.Shuffle(len(l.lookups), func(i, j int) { l.lookups[i], l.lookups[j] = l.lookups[j], l.lookups[i] })
}

// marks returns n marks in random order. A share of them, in percent, is set.
func marks(n, share int) []bool {
	set := make([]bool, n)
	for i := range n * share / 100 {
		set[i] = true
	}
	if share > 0 {
		rand.Shuffle(n, func(i, j int) { set[i], set[j] = set[j], set[i] })
	}
	return set
}

// mix does operations until next returns false: a lookup or, where writes is set, an acquire and the release of its
// tuple, in turn.
func (l *load) mix(t testing.TB, writes []bool, next func() bool) {
	var got tuple.Tuple
	holding := false
	i, j := rand.IntN(len(l.lookups)), rand.IntN(len(l.dsts))
	for next() {
		switch at := &l.lookups[i]; {
		case !writes[i]:
			if !l.Contains(at.t) && at.held { // a write may acquire the others for a while
				t.Error("not found", at.t)
			}
		case holding:
			if holding = false; !l.Release(got) {
				t.Error("not in use", got)
			}
		default:
			holding, got = true, l.Acquire(l.dsts[j])
			if j++; j == len(l.dsts) {
				j = 0
			}
		}
		if i++; i == len(l.lookups) {
			i = 0
		}
	}
	if holding {
		l.Release(got)
	}
}

// acquireRelease acquires and releases until next returns false.
func (l *load) acquireRelease(t testing.TB, next func() bool) {
	i := rand.IntN(len(l.dsts))
	for next() {
		if u := l.Acquire(l.dsts[i]); !l.Release(u) {
			t.Error("not in use", u)
		}
		if i++; i == len(l.dsts) {
			i = 0
		}
	}
}

// TestHalfOfTheLookupsMiss: a lookup that misses is for a port of the pool, towards a destination that has tuples.
func TestHalfOfTheLookupsMiss(t *testing.T) {
	for _, c := range holders {
		if c.name == "gvisor" {
			continue
		}
		for _, n := range []int{1, 1000, 5000} {
			l := newLoad(c.new(), n)
			l.drawLookups()
			dsts := map[netip.AddrPort]bool{}
			for _, dst := range l.dsts {
				dsts[dst] = true
			}
			held := 0
			for _, at := range l.lookups {
				if l.Contains(at.t) != at.held || !dsts[at.t.Dst()] || at.t.Src().Port() < first {
					t.Fatalf("%s: %v, held %v, of %d destinations", c.name, at.t, at.held, n)
				}
				if at.held {
					held++
				}
			}
			if len(dsts) != n || len(l.dsts) != max(n, 1000) || 2*held != len(l.lookups) {
				t.Errorf("%s: %d of %d are held, to %d of %d destinations", c.name, held, len(l.lookups), len(dsts), n)
			}
		}
	}
}

// counting counts the operations.
type counting struct {
	holder
	acquires, releases, lookups atomic.Int64
}

func (c *counting) Acquire(dst netip.AddrPort) tuple.Tuple {
	c.acquires.Add(1)
	return c.holder.Acquire(dst)
}

func (c *counting) Release(t tuple.Tuple) bool {
	c.releases.Add(1)
	return c.holder.Release(t)
}

func (c *counting) Contains(t tuple.Tuple) bool {
	c.lookups.Add(1)
	return c.holder.Contains(t)
}

// TestAWriteIsAnAcquireOrARelease: of 8,000 operations with 10 percent of writes, 400 acquire and 400 release.
func TestAWriteIsAnAcquireOrARelease(t *testing.T) {
	for share, writes := range map[int]int64{0: 0, 10: 400, 50: 2000} {
		l := newLoad(holders[0].new(), 1)
		l.drawLookups()
		c := &counting{holder: l.holder}
		l.holder = c
		n := 0
		l.mix(t, marks(len(l.lookups), share), func() bool { n++; return n <= len(l.lookups) })
		if c.acquires.Load() != writes || c.releases.Load() != writes || c.lookups.Load() != 8000-2*writes {
			t.Errorf("%d %%: %d acquire, %d release, %d look up",
				share, c.acquires.Load(), c.releases.Load(), c.lookups.Load())
		}
	}
}
