package tuple_test

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

// TestPoolIsTheStateMachine runs every operation of a Pool, in any order, beside world, which does the same slowly.
// The long mode:
//
//	go test ./tuple -run StateMachine -rapid.checks=20000 -rapid.steps=100
func TestPoolIsTheStateMachine(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		inBubble(t, func() {
			m := newMachine(rt)
			defer m.disperse() // a failure must not leave waiters: the bubble would report a deadlock
			rt.Repeat(map[string]func(*rapid.T){
				"": m.check, "acquire": m.Acquire, "retire": m.Retire, "reserve": m.Reserve, "contains": m.Contains,
				"sleep": m.Sleep, "sources": m.SetSources, "wait": m.Wait, "cancel": m.Cancel, "ports": m.SetPorts,
				"yield": m.Yield, "take": m.Take, "claim": m.Claim, "free": m.Free, "free unless": m.FreeUnless,
			})
			m.finish(rt)
		})
	})
}

// inBubble runs f with a clock of its own. f may panic, as rapid's failures do. Rapid itself needs the real clock.
func inBubble(t *testing.T, f func()) {
	var failed any
	synctest.Test(t, func(*testing.T) {
		defer func() { failed = recover() }()
		f()
	})
	if failed != nil {
		panic(failed)
	}
}

// The values that a machine draws from. The prefixes overlap in sources that come and go.
var (
	machineSources = prefixes(
		"192.0.2.0/30", "192.0.2.0/31", "192.0.2.2/32", "192.0.2.9/32",
		"2001:db8::/127", "2001:db8::/126", "2001:db8:0:1::/64",
	)
	machineAddrs = []netip.Addr{
		netip.MustParseAddr("192.0.2.0"), netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"),
		netip.MustParseAddr("192.0.2.3"), netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("192.0.2.77"),
		netip.MustParseAddr("2001:db8::"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::3"),
		netip.MustParseAddr("2001:db8:0:1::7"),
	}
	machinePorts = []alloc.Set{
		alloc.RangeSet(5000, 5001), alloc.RangeSet(5000, 5005), alloc.MustParseSet("5001,5003,6000"),
		alloc.RangeSet(5004, 5100), alloc.RangeSet(5002, 5002), alloc.RangeSet(64, 127), alloc.RangeSet(60, 190),
		alloc.MustParseSet("5005,5007,9000-9100,20000,40000"),
	}
	machineDsts = []netip.AddrPort{
		ap("198.51.100.1:443"), ap("198.51.100.1:80"), ap("198.51.100.2:443"),
		ap("[2001:db8:f::1]:443"), ap("[2001:db8:f::2]:443"),
	}
	machinePolicies = []tuple.Policy{
		tuple.RoundRobin, tuple.LeastUsed, tuple.StickyDestination, tuple.StickyOwner, tuple.Random,
	}
)

func newMachine(t *rapid.T) *machine {
	m := &machine{
		pool:   &tuple.Pool{Policy: rapid.SampledFrom(machinePolicies).Draw(t, "policy")},
		ports:  rapid.SampledFrom(machinePorts).Draw(t, "ports"),
		scope:  func(dst netip.AddrPort) netip.AddrPort { return dst },
		world:  world{map[netip.Prefix]alloc.Set{}, map[netip.Prefix]bool{}, map[tuple.Tuple]*holding{}},
		sticky: map[string]netip.Addr{},
		peak:   map[netip.AddrPort]int{},
	}
	follows := rapid.Bool().Draw(t, "ports follow the host")
	if !follows {
		m.pool.Ports = m.ports
	}
	m.pool.ReuseRetired = rapid.Bool().Draw(t, "reuse")
	quotas := rapid.SampledFrom([]int{0, 0, 0, 2, 7})
	m.pool.MaxTuples = quotas.Draw(t, "most")
	m.pool.MaxPerDestination = quotas.Draw(t, "most per dst")
	m.pool.MaxPerOwner = quotas.Draw(t, "most per owner")
	m.pool.SetRand(rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)).Uint64)
	if rapid.Bool().Draw(t, "scoped") {
		m.scope = func(dst netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(dst.Addr(), 1) }
		m.pool.Scope = m.scope
	}
	list := m.drawSources(t)
	if len(list) == 0 {
		m.any = true // the operating system picks the address
		m.live[netip.MustParsePrefix("0.0.0.0/32")], m.live[netip.MustParsePrefix("::/128")] = m.ports, m.ports
	}
	for _, s := range list {
		m.pool.Sources = append(m.pool.Sources, s.Prefix)
	}
	for _, s := range list {
		m.live[s.Prefix] = m.ports
	}
	if follows {
		require.NoError(t, only.SetPorts(m.pool, m.ports))
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

// SetSources sets other sources, or the same with other ports.
func (m *machine) SetSources(t *rapid.T) {
	list := m.drawSources(t)
	if m.any {
		require.ErrorContains(t, m.pool.SetSources(list...), "the Pool has no Sources")
		return
	}
	require.NoError(t, m.pool.SetSources(list...))
	clear(m.live)
	clear(m.own)
	clear(m.sticky)
	for _, s := range list {
		m.live[s.Prefix] = s.Ports
		m.own[s.Prefix] = !s.Ports.IsZero()
		if s.Ports.IsZero() {
			m.live[s.Prefix] = m.ports
		}
	}
}

// SetPorts sets other ports for the sources that have none of their own.
func (m *machine) SetPorts(t *rapid.T) {
	set := rapid.SampledFrom(machinePorts).Draw(t, "ports")
	err := only.SetPorts(m.pool, set)
	if !m.pool.Ports.IsZero() {
		require.ErrorContains(t, err, "Pool.Ports is set")
		return
	}
	require.NoError(t, err)
	m.ports = set
	for prefix := range m.live {
		if !m.own[prefix] {
			m.live[prefix] = set
		}
	}
}

func (m *machine) drawRequest(t *rapid.T) tuple.Request {
	r := tuple.Request{
		Dst:   rapid.SampledFrom(machineDsts).Draw(t, "dst"),
		Owner: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "owner"),
	}
	if rapid.IntRange(0, 2).Draw(t, "from one source") == 0 {
		r.Src = rapid.SampledFrom(machineAddrs).Draw(t, "src")
	}
	if rapid.IntRange(0, 2).Draw(t, "some ports") == 0 {
		r.Ports = rapid.SampledFrom(machinePorts).Draw(t, "ports")
	}
	return r
}

// Acquire makes any request, a few times over.
func (m *machine) Acquire(t *rapid.T) {
	r := m.drawRequest(t)
	for range rapid.IntRange(1, 12).Draw(t, "times") {
		m.acquire(t, r)
		m.serve(t) // the reused tuple may have counted for the owner of a waiter
	}
}

func (m *machine) acquire(t *rapid.T, r tuple.Request) {
	free, served := m.free(r), m.isServed(r)
	stops, counts := m.stops(r)
	longest, _ := m.rested(r)
	got, err := m.pool.TryAcquireFor(r)
	if r.Owner == "" && !r.Src.IsValid() && r.Ports.IsZero() && stops == 0 && err == nil && len(m.line) == 0 {
		// TryAcquire does the same.
		require.True(t, m.pool.Release(got))
		got, err = m.pool.TryAcquire(r.Dst)
	}
	if served {
		require.NoError(t, err)
		if stops == 0 && len(free) > 0 {
			m.checkPolicy(t, r, free, got.Src().Addr())
		} else {
			require.Equal(t, longest, m.key(got), "others have rested longer")
		}
		m.hold(t, r, got)
		return
	}
	require.Error(t, err)
	require.Zero(t, got)
	switch e := err.(type) {
	case *tuple.QuotaError:
		require.Equal(t, stops, e.Quota)
		require.Equal(t, counts, tally{e.InUse, e.Retired})
		require.Equal(t, r.Dst, e.Dst)
	case *tuple.ExhaustedError:
		inUse, retired, taken := m.towards(r.Dst)
		require.Equal(t, []any{tuple.Quota(0), r.Dst, inUse, retired, taken, m.next(r.Dst)},
			[]any{stops, e.Dst, e.InUse, e.Retired, e.Taken, e.Next})
	default: // it can never be served, or not from the present sources
		require.Empty(t, free)
	}
}

// Wait starts a waiter if it would stand in a line.
func (m *machine) Wait(t *rapid.T) {
	w := &inLine{request: m.drawRequest(t), done: make(chan result, 1)}
	var ctx context.Context
	ctx, w.cancel = context.WithCancel(context.Background())
	go func() {
		u, err := m.pool.AcquireFor(ctx, w.request)
		w.done <- result{tuple: u, err: err}
	}()
	m.line = append(m.line, w)
	m.waited = true
}

// Cancel cancels a waiter.
func (m *machine) Cancel(t *rapid.T) {
	if len(m.line) == 0 {
		t.Skip("nobody waits")
	}
	i := rapid.IntRange(0, len(m.line)-1).Draw(t, "who")
	w := m.line[i]
	m.line = slices.Delete(m.line, i, i+1)
	w.cancel()
	got := <-w.done
	require.ErrorIs(t, got.err, context.Canceled)
	require.True(t, errors.Is(got.err, tuple.ErrExhausted) || errors.Is(got.err, tuple.ErrQuota), got.err)
}

// disperse cancels all waiters.
func (m *machine) disperse() {
	for _, w := range m.line {
		w.cancel()
	}
}

// serve records what waiters were given. It checks that they were served in order of arrival, and that none waits for a
// tuple that it could have.
func (m *machine) serve(t *rapid.T) {
	synctest.Wait()
	m.expire()
	var left []*inLine
	waits := map[tuple.Request]bool{}
	for _, w := range m.line {
		if len(w.done) == 0 {
			waits[w.request] = true
			left = append(left, w)
			continue
		}
		got := <-w.done
		w.cancel()
		if got.err != nil { // the sources at its arrival could not serve it
			require.False(t, errors.Is(got.err, tuple.ErrExhausted) || errors.Is(got.err, tuple.ErrQuota), got.err)
			require.Empty(t, m.free(w.request), got.err)
			continue
		}
		require.False(t, waits[w.request], "somebody who came before still waits")
		m.hold(t, w.request, got.tuple)
	}
	m.line = left
	for _, w := range m.line {
		require.False(t, m.isServed(w.request), "%+v waits for what there is", w.request)
	}
}

// drawTuple draws a tuple that is held, or any tuple.
func (m *machine) drawTuple(t *rapid.T) tuple.Tuple {
	if len(m.held) > 0 && rapid.IntRange(0, 3).Draw(t, "held") > 0 {
		all := slices.SortedFunc(maps.Keys(m.held), tuple.Tuple.Compare)
		return m.held[rapid.SampledFrom(all).Draw(t, "tuple")].tuple
	}
	src := rapid.SampledFrom(machineAddrs).Draw(t, "src")
	port := rapid.SampledFrom([]uint16{5000, 5001, 5003, 5004, 6000, 64, 7}).Draw(t, "port")
	return tuple.From(netip.AddrPortFrom(src, port), rapid.SampledFrom(machineDsts).Draw(t, "dst"))
}

// Retire ends the use of a tuple: without a cool-down, with one, with that of an Ending, or for as long as the kernel
// holds it.
func (m *machine) Retire(t *rapid.T) {
	u := m.drawTuple(t)
	h := m.held[m.key(u)]
	want := h != nil && h.until == 0
	d := rapid.SampledFrom([]time.Duration{0, 0, time.Minute, 16 * time.Second}).Draw(t, "for")
	kernel := rapid.Bool().Draw(t, "for the kernel")
	if kernel {
		require.Equal(t, want, only.RetireForKernel(m.pool, u, d), "RetireForKernel(%v, %v)", u, d)
	} else if rapid.Bool().Draw(t, "by ending") {
		how := tuple.PassiveClose
		switch d {
		case time.Minute:
			how = tuple.ActiveClose
		case 16 * time.Second:
			how = tuple.Reset
		}
		require.Equal(t, want, m.pool.RetireAs(u, how), "RetireAs(%v, %v)", u, how)
	} else {
		require.Equal(t, want, m.pool.Retire(u, d), "Retire(%v, %v)", u, d)
	}
	switch {
	case !want:
	case d == 0:
		m.drop(m.key(u))
	default:
		h.until, h.kernel = now()+int64(d), kernel
		m.turns++
		h.turn = m.turns
	}
}

// Reserve takes a tuple by name.
func (m *machine) Reserve(t *rapid.T) {
	u := m.drawTuple(t)
	want := m.held[m.key(u)] == nil && m.isHandedOut(u)
	owner := rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "owner")
	require.Equal(t, want, m.pool.ReserveFor(u, owner), "ReserveFor(%v, %q)", u, owner)
	if want {
		m.enter(u, &holding{tuple: u, owner: owner})
	}
}

// Contains looks for a tuple.
func (m *machine) Contains(t *rapid.T) {
	u := m.drawTuple(t)
	require.Equal(t, m.stateOf(u), m.pool.State(u), "State(%v)", u)
	require.Equal(t, m.held[m.key(u)] != nil, m.pool.Contains(u), "Contains(%v)", u)
}

// Sleep lets some of the retired cool down.
func (m *machine) Sleep(t *rapid.T) {
	time.Sleep(time.Duration(rapid.Int64Range(1, int64(20*time.Second)).Draw(t, "for")))
	m.expire()
}

// check compares the counts after every step.
func (m *machine) check(t *rapid.T) {
	m.serve(t)
	want := tuple.Stats{Waiting: len(m.line)}
	dsts := map[netip.AddrPort]int{}
	states := map[tuple.Tuple]tuple.State{}
	for k, h := range m.held {
		dsts[k.Dst()]++
		states[k] = m.stateOf(h.tuple)
		switch states[k] {
		case tuple.InUse:
			want.InUse++
		case tuple.Retired:
			want.Retired++
		default:
			want.Taken++
		}
	}
	requireAll(t, states, m.pool)
	want.Destinations = len(dsts)
	got := m.pool.Stats()
	if len(m.line) > 0 {
		want.Destinations = got.Destinations // some may have only waiters
	}
	require.Equal(t, want, got)
	for _, prefix := range machineSources {
		from := 0
		for k := range m.held {
			if prefix.Contains(k.Src().Addr()) {
				from++
			}
		}
		require.Equal(t, from, m.pool.HeldFrom(prefix), "from %v", prefix)
	}
	for u := range m.pool.Destinations() {
		require.Equal(t, dsts[u.Dst], u.InUse+u.Retired+u.Taken, "towards %v", u.Dst)
	}
	for _, dst := range machineDsts {
		want, isFreeKnown := m.usage(dst)
		got := m.pool.Usage(dst)
		got.At, want.Waiting = time.Time{}, got.Waiting
		if !isFreeKnown {
			got.Free = want.Free
		}
		if m.waited {
			got.HighWater = want.HighWater
		}
		require.Equal(t, want, got)
	}
	require.NoError(t, m.pool.Check())
}

// finish closes the pool, and gives everything back.
func (m *machine) finish(t *rapid.T) {
	m.serve(t)
	require.NoError(t, m.pool.Close())
	for k, h := range m.held {
		require.Equal(t, m.stateOf(h.tuple), m.pool.State(h.tuple), "%v", k)
	}
	for _, w := range m.line {
		require.ErrorIs(t, (<-w.done).err, tuple.ErrClosed)
		w.cancel()
	}
	_, err := m.pool.TryAcquire(machineDsts[0])
	require.ErrorIs(t, err, tuple.ErrClosed)
	for _, h := range m.held {
		if h.until == 0 {
			require.True(t, m.pool.Release(h.tuple), "%v was not in use", h.tuple)
		}
		_, ok := only.Claim(m.pool, h.tuple, "")
		require.False(t, ok || only.Take(m.pool, h.tuple, -1), "%v is taken from a pool that is closed", h.tuple)
		require.Equal(t, h.mayEnd(), only.Free(m.pool, h.tuple), "%v", h.tuple)
	}
	time.Sleep(time.Hour)
	require.Zero(t, m.pool.Stats())
	require.NoError(t, m.pool.Check())
}
