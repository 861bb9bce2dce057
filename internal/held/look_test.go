package held_test

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ephemera-go/ephemera/internal/held"
)

// watched is a tuple that is held all the while, or never.
type watched struct {
	dst netip.AddrPort
	src held.Addr
	at  uint16
}

// reader looks at tuples without the lock.
type reader struct {
	s     *side
	rules atomic.Pointer[held.Rules]
	stop  atomic.Bool
}

// look looks at tuples until it is told to stop, and returns how often it knew. All are held, or none is.
func (r *reader) look(t *testing.T, list []watched, want bool) (n int64) {
	for !r.stop.Load() {
		for _, w := range list {
			key := keyOf(w.dst)
			look := r.s.Begin(key)
			rules := r.rules.Load()
			h, ok := rules.Sources(key).Find(w.src, w.at)
			if !ok {
				assert.Fail(t, "no source", "%v", w)
				return n
			}
			switch is, known := look.Contains(key, key.Hash(rules.Hash), h); {
			case known && is != want:
				assert.Fail(t, "a reader saw what never was", "%v: held %t", w, is)
				return n
			case known:
				n++
			}
		}
	}
	return n
}

// Readers without the lock see each tuple that is held all the while, and none that never is, whenever they know.
// Meanwhile destinations come and go, become large and small, get and lose sources, and move with new Rules.
func TestLookSeesWhatIsHeldAllTheWhile(t *testing.T) {
	t.Log("seed: rand.NewPCG(7, 2)")
	rng := rand.New(rand.NewPCG(7, 2))
	list := append(span(3000, 200), span(9000, 9)...)
	s := newSide(held.RoundRobin, 7, list, "192.0.2.0/31", "2001:db8::/127")
	var in, out []watched
	dsts := map[bool][]netip.AddrPort{} // by whether a watched tuple is held there
	for i := range 24 {
		dst, src := dstN(i), held.AddrFrom(netip.MustParseAddr("192.0.2.1"))
		if i%2 == 1 {
			dst, src = dst6N(i), held.AddrFrom(netip.MustParseAddr("2001:db8::1"))
		}
		dsts[i%3 > 0] = append(dsts[i%3 > 0], dst)
		out = append(out, watched{dst, src, 9001})
		if i%3 > 0 {
			in = append(in, watched{dst, src, 9000})
			s.reserve(dst, held.HoldOf(1, 9000))
		}
	}
	first := s.rules
	r := &reader{s: s}
	r.rules.Store(&first)
	var known [2]atomic.Int64
	var readers sync.WaitGroup
	readers.Go(func() { known[0].Store(r.look(t, in, true)) })
	readers.Go(func() { known[1].Store(r.look(t, out, false)) })
	tours := 1500
	if raceEnabled {
		tours = 300
	}
	for tour := range tours {
		tourOf(t, s, rng, dsts[rng.IntN(2) == 0])
		if tour%5 == 0 {
			moveWith(s, &r.rules, list[rng.IntN(3):], rng.IntN(2) == 0)
		}
	}
	r.stop.Store(true)
	readers.Wait()
	s.check(t)
	require.Positive(t, known[0].Load())
	require.Positive(t, known[1].Load())
}

// tourOf has some tuples towards a destination come and go, of ports that nobody watches.
func tourOf(t *testing.T, s *side, rng *rand.Rand, dsts []netip.AddrPort) {
	dst := dsts[rng.IntN(len(dsts))]
	var mine []held.Hold
	for range []int{1, 2, 4, 80}[rng.IntN(4)] {
		a := s.ask(dst)
		a.Ports = unwatched
		h, ok := s.find(dst).Acquire(a, &s.rules)
		require.True(t, ok)
		mine = append(mine, h)
		switch rng.IntN(4) {
		case 0:
			s.find(dst).Retire(h)
		case 1:
			s.find(dst).Yield(h, &s.rules)
		}
	}
	rng.Shuffle(len(mine), func(i, j int) { mine[i], mine[j] = mine[j], mine[i] })
	for _, h := range mine {
		s.free(dst, h)
	}
}

var unwatched = allow(span(3000, 200))

// moveWith goes over to other ports, and with them perhaps to one source more, which changes the others' numbers.
func moveWith(s *side, rules *atomic.Pointer[held.Rules], list []uint16, more bool) {
	prefixes := []string{"192.0.2.0/31", "2001:db8::/127"}
	if more {
		prefixes = []string{"192.0.1.0/32", "192.0.2.0/31", "2001:db7::/128", "2001:db8::/127"}
	}
	v4, v6 := sourcesOf(list, prefixes...)
	held4, held6 := make([]bool, s.rules.V4.DrainedBlocks()), make([]bool, s.rules.V6.DrainedBlocks())
	s.DrainedInUse(&s.rules, held4, held6)
	v4.Keep(&s.rules.V4, held4)
	v6.Keep(&s.rules.V6, held6)
	next := s.rules.With(v4, v6)
	s.Move(&s.rules, &next, func() { rules.Store(&next) })
	s.rules = next
}

// Most lookups need no lock: those of a destination with up to three tuples, and with many from one source.
func TestLookKnowsWhatMostDestinationsHold(t *testing.T) {
	s := newSide(held.RoundRobin, 7, span(3000, 500), "192.0.2.0/32", "2001:db8::/128")
	for n := range 200 {
		for _, dst := range []netip.AddrPort{web, web6} {
			h := s.acquire(t, dst)
			key := keyOf(dst)
			is, known := s.Begin(key).Contains(key, key.Hash(s.rules.Hash), h)
			require.True(t, is && known, "with %d tuples", n)
			s.free(dst, h)
			is, known = s.Begin(key).Contains(key, key.Hash(s.rules.Hash), h)
			require.True(t, known && !is, "with %d tuples", n)
			s.acquire(t, dst)
		}
	}
}
