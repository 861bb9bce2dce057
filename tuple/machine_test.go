package tuple_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime/debug"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

// TestPoolIsTheStateMachine runs every operation of a Pool, in any order, beside world, which does the same slowly. The long
// mode:
//
//	go test ./tuple -run StateMachine -rapid.checks=20000 -rapid.steps=100
func TestPoolIsTheStateMachine(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		inBubble(t, func() {
			m := newMachine(rt)
			rt.Repeat(map[string]func(*rapid.T){
				"": m.check, "acquire": m.Acquire, "retire": m.Retire, "reserve": m.Reserve, "contains": m.Contains,
				"sleep": m.Sleep, "sources": m.SetSources,
			})
			m.finish(rt)
		})
	})
}

// inBubble runs f, which may panic, as rapid's failures do, with a clock of its own. Rapid itself must have the real one.
func inBubble(t *testing.T, f func()) {
	var failed any
	synctest.Test(t, func(*testing.T) {
		defer func() {
			failed = recover()
			if os.Getenv("DBG") != "" && failed != nil {
				fmt.Printf("%T %v\n%s\n", failed, failed, debug.Stack())
			}
		}()
		f()
	})
	if failed != nil {
		panic(failed)
	}
}

// What a machine draws from. The prefixes overlap, in sources that come and go.
var (
	machineSources = prefixes("192.0.2.0/30", "192.0.2.0/31", "192.0.2.2/32", "192.0.2.9/32", "2001:db8::/127", "2001:db8::/126", "2001:db8:0:1::/64")
	machineAddrs   = []netip.Addr{
		netip.MustParseAddr("192.0.2.0"), netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3"),
		netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("192.0.2.77"), netip.MustParseAddr("2001:db8::"), netip.MustParseAddr("2001:db8::1"),
		netip.MustParseAddr("2001:db8::3"), netip.MustParseAddr("2001:db8:0:1::7"),
	}
	machinePorts = []alloc.Set{
		alloc.RangeSet(5000, 5001), alloc.RangeSet(5000, 5005), alloc.MustParseSet("5001,5003,6000"), alloc.RangeSet(5004, 5100),
		alloc.RangeSet(5002, 5002), alloc.RangeSet(64, 127), alloc.RangeSet(60, 190), alloc.MustParseSet("5005,5007,9000-9100,20000,40000"),
	}
	machineDsts = []netip.AddrPort{
		ap("198.51.100.1:443"), ap("198.51.100.1:80"), ap("198.51.100.2:443"), ap("[2001:db8:f::1]:443"), ap("[2001:db8:f::2]:443"),
	}
)

// world is what a Pool should be: the ports of each live source, and every tuple that is held, by the space that it is in.
type world struct {
	live map[netip.Prefix]alloc.Set
	held map[tuple.Tuple]*holding // with the scope for a destination
}

type holding struct {
	tuple tuple.Tuple // as it was handed out
	until int64       // 0: in use; else when it comes free
	turn  int         // of the retired ones, the lower the longer it has rested
}

type machine struct {
	pool  *tuple.Pool
	ports alloc.Set
	scope func(netip.AddrPort) netip.AddrPort
	world
	turns  int
	sticky map[string]netip.Addr // by owner or destination: the first choice of the present sources, once it is known
}

func newMachine(t *rapid.T) *machine {
	m := &machine{
		pool:  &tuple.Pool{Policy: rapid.SampledFrom([]tuple.Policy{tuple.Rotate, tuple.LeastUsed, tuple.StickyDst, tuple.StickyOwner, tuple.Random}).Draw(t, "policy")},
		ports: rapid.SampledFrom(machinePorts).Draw(t, "ports"),
		scope: func(dst netip.AddrPort) netip.AddrPort { return dst },
		world: world{map[netip.Prefix]alloc.Set{}, map[tuple.Tuple]*holding{}}, sticky: map[string]netip.Addr{},
	}
	m.pool.Ports = m.ports
	m.pool.ReuseRetired = rapid.Bool().Draw(t, "reuse")
	m.pool.SetRand(rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)).Uint64)
	if rapid.Bool().Draw(t, "scoped") {
		m.scope = func(dst netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(dst.Addr(), 1) }
		m.pool.Scope = m.scope
	}
	list := m.drawSources(t)
	for len(list) == 0 {
		list = []tuple.Source{{Prefix: machineSources[0]}}
	}
	for _, s := range list {
		m.pool.Sources = append(m.pool.Sources, s.Prefix)
	}
	for _, s := range list {
		m.live[s.Prefix] = m.ports
	}
	return m
}

// drawSources draws sources none of which lies within another.
func (m *machine) drawSources(t *rapid.T) (list []tuple.Source) {
	for _, prefix := range machineSources {
		lies := slices.ContainsFunc(list, func(s tuple.Source) bool { return s.Prefix.Overlaps(prefix) })
		if !lies && rapid.Bool().Draw(t, "source") {
			s := tuple.Source{Prefix: prefix}
			if rapid.Bool().Draw(t, "own ports") {
				s.Ports = rapid.SampledFrom(machinePorts).Draw(t, "source's ports")
			}
			list = append(list, s)
		}
	}
	return list
}

// SetSources lists other sources, or the same with other ports.
func (m *machine) SetSources(t *rapid.T) {
	list := m.drawSources(t)
	require.NoError(t, m.pool.SetSources(list...))
	clear(m.live)
	clear(m.sticky)
	for _, s := range list {
		m.live[s.Prefix] = s.Ports
		if s.Ports.IsZero() {
			m.live[s.Prefix] = m.ports
		}
	}
}

// portsOf returns the ports that are handed out of a source.
func (m *machine) portsOf(src netip.Addr) alloc.Set {
	for prefix, ports := range m.live {
		if prefix.Contains(src) {
			return ports
		}
	}
	return alloc.Set{}
}

// key returns the tuple of the space that t lies in.
func (m *machine) key(t tuple.Tuple) tuple.Tuple { return tuple.From(t.Src(), m.scope(t.Dst())) }

func (m *machine) expire() {
	for k, h := range m.held {
		if h.until != 0 && h.until <= now() {
			delete(m.held, k)
		}
	}
}

// free counts the tuples that would do for a request, by source; a source of a wide prefix counts once for all unused ones.
func (m *machine) free(r tuple.Request) map[netip.Addr]int {
	free := map[netip.Addr]int{}
	for prefix, ports := range m.live {
		if prefix.Addr().Is4() != r.Dst.Addr().Is4() {
			continue
		}
		if !r.Ports.IsZero() {
			ports = ports.Intersect(r.Ports)
		}
		if prefix.Bits() == 64 && r.Src.IsValid() {
			if prefix.Contains(r.Src) {
				free[r.Src] = ports.Len()
			}
			continue
		}
		for a := prefix.Addr(); prefix.Contains(a); a = a.Next() {
			if !r.Src.IsValid() || r.Src == a {
				free[a] = ports.Len()
			}
			if prefix.Bits() == 64 {
				break
			}
		}
	}
	for k, h := range m.held {
		if _, ok := free[k.Src().Addr()]; ok && k.Dst() == m.scope(r.Dst) && !(machineSources[6].Contains(k.Src().Addr()) && !r.Src.IsValid()) {
			if src := h.tuple.Src(); m.portsOf(src.Addr()).Contains(src.Port()) && (r.Ports.IsZero() || r.Ports.Contains(src.Port())) {
				free[src.Addr()]--
			}
		}
	}
	maps.DeleteFunc(free, func(_ netip.Addr, n int) bool { return n == 0 })
	return free
}

// Acquire makes any request.
func (m *machine) Acquire(t *rapid.T) {
	r := tuple.Request{Dst: rapid.SampledFrom(machineDsts).Draw(t, "dst"), Owner: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "owner")}
	if rapid.IntRange(0, 2).Draw(t, "from one source") == 0 {
		r.Src = rapid.SampledFrom(machineAddrs).Draw(t, "src")
	}
	if rapid.IntRange(0, 2).Draw(t, "some ports") == 0 {
		r.Ports = rapid.SampledFrom(machinePorts).Draw(t, "ports")
	}
	times := rapid.IntRange(1, 12).Draw(t, "times")
	for range times {
		m.acquire(t, r)
	}
}

func (m *machine) acquire(t *rapid.T, r tuple.Request) {
	free := m.free(r)
	got, err := m.pool.TryAcquireFor(r)
	if r.Owner == "" && !r.Src.IsValid() && r.Ports.IsZero() && err == nil {
		// The simple call is the same.
		require.True(t, m.pool.Release(got))
		got, err = m.pool.TryAcquire(r.Dst)
	}
	if k, ok := m.rested(r); len(free) == 0 && ok {
		require.NoError(t, err)
		require.Equal(t, tuple.From(k.Src(), r.Dst), got, "others have rested longer")
		m.held[k] = &holding{tuple: got}
		return
	}
	if len(free) == 0 {
		require.Error(t, err)
		require.Zero(t, got)
		if full, ok := err.(*tuple.ExhaustedError); ok {
			inUse, retired := m.towards(r.Dst)
			require.Equal(t, []int{inUse, retired}, []int{full.InUse, full.Retired})
			require.Equal(t, r.Dst, full.Dst)
		}
		return
	}
	require.NoError(t, err)
	src := got.Src()
	require.True(t, got.IsValid() && got.Dst() == r.Dst, got)
	require.True(t, !r.Src.IsValid() || r.Src == src.Addr(), got)
	require.True(t, r.Ports.IsZero() || r.Ports.Contains(src.Port()), got)
	require.True(t, m.portsOf(src.Addr()).Contains(src.Port()), "%v is none of the pool's", got)
	require.Nil(t, m.held[m.key(got)], "%v is held twice", got)
	m.checkPolicy(t, r, free, src.Addr())
	m.held[m.key(got)] = &holding{tuple: got}
}

// rested returns what has rested longest of that which would do for a request.
func (m *machine) rested(r tuple.Request) (longest tuple.Tuple, ok bool) {
	for k, h := range m.held {
		src := k.Src()
		switch {
		case !m.pool.ReuseRetired, h.until == 0, k.Dst() != m.scope(r.Dst), !m.portsOf(src.Addr()).Contains(src.Port()):
		case r.Src.IsValid() && r.Src != src.Addr(), !r.Ports.IsZero() && !r.Ports.Contains(src.Port()):
		case !ok || h.turn < m.held[longest].turn:
			longest, ok = k, true
		}
	}
	return longest, ok
}

// checkPolicy checks which source a tuple was taken from.
func (m *machine) checkPolicy(t *rapid.T, r tuple.Request, free map[netip.Addr]int, got netip.Addr) {
	if r.Src.IsValid() || !r.Ports.IsZero() {
		return
	}
	name := ""
	inUse, retired := m.towards(r.Dst)
	switch m.pool.Policy {
	case tuple.LeastUsed:
		held := map[netip.Addr]int{}
		for k := range m.held {
			if src := k.Src(); k.Dst() == m.scope(r.Dst) && m.portsOf(src.Addr()).Contains(src.Port()) {
				held[src.Addr()]++
			}
		}
		for a := range free {
			require.LessOrEqual(t, held[got], held[a], "%v is taken, and %v is used less", got, a)
		}
		return
	case tuple.StickyDst:
		name = m.scope(r.Dst).String()
	case tuple.StickyOwner:
		if name = r.Owner; name == "" {
			return
		}
		name += r.Dst.Addr().Unmap().String()[:1] // each family has sources of its own
	default:
		return
	}
	switch first, ok := m.sticky[name]; {
	case ok:
		used := 0
		for k := range m.held {
			if k.Dst() == m.scope(r.Dst) && k.Src().Addr() == first && m.portsOf(first).Contains(k.Src().Port()) {
				used++
			}
		}
		if used < m.portsOf(first).Len() {
			require.Equal(t, first, got, "%s does not stick", name)
		}
	case inUse+retired == 0: // so the first choice had room
		m.sticky[name] = got
	}
}

func (m *machine) towards(dst netip.AddrPort) (inUse, retired int) {
	for k, h := range m.held {
		switch {
		case k.Dst() != m.scope(dst):
		case h.until == 0:
			inUse++
		default:
			retired++
		}
	}
	return inUse, retired
}

// drawTuple draws one that is held, or one that may be anything.
func (m *machine) drawTuple(t *rapid.T) tuple.Tuple {
	if len(m.held) > 0 && rapid.IntRange(0, 3).Draw(t, "held") > 0 {
		all := slices.SortedFunc(maps.Keys(m.held), tuple.Tuple.Compare)
		return m.held[rapid.SampledFrom(all).Draw(t, "tuple")].tuple
	}
	src := rapid.SampledFrom(machineAddrs).Draw(t, "src")
	port := rapid.SampledFrom([]uint16{5000, 5001, 5003, 5004, 6000, 64, 7}).Draw(t, "port")
	return tuple.From(netip.AddrPortFrom(src, port), rapid.SampledFrom(machineDsts).Draw(t, "dst"))
}

// Retire ends the use of a tuple, with or without a cool-down.
func (m *machine) Retire(t *rapid.T) {
	u := m.drawTuple(t)
	d := rapid.SampledFrom([]time.Duration{0, 0, time.Minute, 16 * time.Second}).Draw(t, "for")
	h := m.held[m.key(u)]
	want := h != nil && h.until == 0
	require.Equal(t, want, m.pool.Retire(u, d), "Retire(%v, %v)", u, d)
	switch {
	case !want:
	case d == 0:
		delete(m.held, m.key(u))
	default:
		h.until = now() + int64(d)
		m.turns++
		h.turn = m.turns
	}
}

// Reserve takes a tuple by name.
func (m *machine) Reserve(t *rapid.T) {
	u := m.drawTuple(t)
	want := m.held[m.key(u)] == nil && m.portsOf(u.Src().Addr()).Contains(u.Src().Port()) && u.IsValid()
	require.Equal(t, want, m.pool.Reserve(u), "Reserve(%v)", u)
	if want {
		m.held[m.key(u)] = &holding{tuple: u}
	}
}

// Contains looks for a tuple.
func (m *machine) Contains(t *rapid.T) {
	u := m.drawTuple(t)
	require.Equal(t, m.held[m.key(u)] != nil, m.pool.Contains(u), "Contains(%v)", u)
}

// Sleep lets some of the retired cool down.
func (m *machine) Sleep(t *rapid.T) {
	time.Sleep(time.Duration(rapid.Int64Range(1, int64(20*time.Second)).Draw(t, "for")))
	m.expire()
}

// Check compares the counts after every step.
func (m *machine) check(t *rapid.T) {
	var want tuple.Stats
	dsts := map[netip.AddrPort]bool{}
	for k, h := range m.held {
		dsts[k.Dst()] = true
		if h.until == 0 {
			want.InUse++
		} else {
			want.Retired++
		}
	}
	want.Destinations = len(dsts)
	require.Equal(t, want, m.pool.Stats())
	require.NoError(t, m.pool.Check())
}

// finish gives everything back.
func (m *machine) finish(t *rapid.T) {
	for _, h := range m.held {
		if h.until == 0 {
			require.True(t, m.pool.Release(h.tuple), "%v was not in use", h.tuple)
		}
	}
	time.Sleep(time.Hour)
	require.Zero(t, m.pool.Stats())
	require.NoError(t, m.pool.Check())
}
