package held_test

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ephemera-go/ephemera/internal/held"
)

func (m *machine) drawRequest(t *rapid.T) *request {
	r := &request{dst: rapid.SampledFrom(machineDsts).Draw(t, "dst")}
	r.owner = rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "owner")
	if rapid.IntRange(0, 3).Draw(t, "from one source") == 0 {
		r.src = rapid.SampledFrom(machineAddrs).Draw(t, "src")
	}
	if rapid.IntRange(0, 2).Draw(t, "some ports") == 0 {
		r.ports = m.drawPorts(t)
	}
	return r
}

// Acquire makes any request, a few times over.
func (m *machine) Acquire(t *rapid.T) {
	r := m.drawRequest(t)
	a := held.Ask{Owner: r.owner}
	if r.src.IsValid() {
		a.Src = held.AddrFrom(r.src)
	}
	if r.ports != nil {
		a.Ports = m.tableOf(r.ports)
	}
	for range rapid.SampledFrom([]int{1, 1, 1, 2, 3, 12, 70}).Draw(t, "times") {
		if !m.acquire(t, r, a) {
			return
		}
	}
}

func (m *machine) acquire(t *rapid.T, r *request, a held.Ask) bool {
	exists := m.exists(r)
	at, key, hash := m.find(r.dst)
	a.Key, a.Hash, a.Rand = key, hash, m.rules.Rand()
	h, ok := at.Acquire(&a, &m.rules)
	require.Equal(t, exists, ok, "Acquire(%+v)", *r)
	if !ok {
		require.Zero(t, h)
		return false
	}
	n := m.name(r.dst, h)
	require.True(t, m.isFree(n) && r.fits(n), "%v for %+v, and it is %v", n, *r, m.held[n])
	require.Equal(t, h, m.hold(t, n))
	require.True(t, m.from(r.dst).HandsOut(h) && a.Fits(h, m.from(r.dst)))
	if r.src.IsValid() {
		delete(m.turns, r.dst)
	} else {
		m.checkPolicy(t, r, n.src)
		m.turns[r.dst] = (h.Number() + 1) % m.from(r.dst).Len()
	}
	m.set(n, held.InUse)
	return true
}

// checkPolicy checks which source was chosen for a request, before the tuple is entered.
func (m *machine) checkPolicy(t *rapid.T, r *request, got netip.Addr) {
	switch {
	case m.policy == held.LeastUsed:
		m.checkLeastUsed(t, r, got)
	case m.policy == held.StickyDestination:
		m.checkSticky(t, r, r.dst.String(), got)
	case m.policy == held.StickyOwner && r.owner != "":
		m.checkSticky(t, r, r.owner+r.dst.Addr().String()[:1], got) // each family has sources of its own
	case m.policy != held.Random:
		m.checkTurn(t, r, got)
	}
}

func (m *machine) checkLeastUsed(t *rapid.T, r *request, got netip.Addr) {
	used := m.heldFrom(r.dst)
	for _, f := range m.towards(r.dst) {
		a := f.prefix.Addr()
		for range min(f.size(), 64) {
			if m.free(r, a) > 0 {
				require.LessOrEqual(t, used[got], used[a], "%v is chosen, and %v is used less", got, a)
			}
			a = a.Next()
		}
	}
}

func (m *machine) checkSticky(t *rapid.T, r *request, what string, got netip.Addr) {
	switch first, ok := m.sticky[what]; {
	case ok && m.free(r, first) > 0:
		require.Equal(t, first, got, "%s does not stick", what)
	case !ok && r.ports == nil && m.counts(r.dst) == (held.Counts{}): // so the first choice had room
		m.sticky[what] = got
	}
}

// checkTurn checks that none of the sources whose turn came before had a free port.
func (m *machine) checkTurn(t *rapid.T, r *request, got netip.Addr) {
	number, known := m.turns[r.dst]
	if !known {
		return
	}
	from := m.from(r.dst)
	for number != m.numberOf(from, got) {
		a := from.At(number).Netip()
		require.Zero(t, m.free(r, a), "%v has the turn, and %v is chosen", a, got)
		number++
		for _, f := range m.towards(r.dst) {
			if f.has(a) && !slices.ContainsFunc(f.ports, r.wants) { // no address of the prefix has one
				number = m.numberOf(from, f.prefix.Addr()) + uint64(f.size())
			}
		}
		if number >= from.Len() {
			number = 0
		}
	}
}

func (m *machine) numberOf(from *held.Sources, a netip.Addr) uint64 {
	number, _ := from.Live(held.AddrFrom(a))
	return number
}

// check compares everything after each step.
func (m *machine) check(t *rapid.T) {
	require.NoError(t, m.table.Check(&m.rules))
	dsts := map[netip.AddrPort]bool{}
	for n := range m.held {
		dsts[n.dst] = true
	}
	require.Equal(t, len(dsts), m.table.Len())
	all := 0
	for at := range m.table.All {
		require.True(t, at.Held() && dsts[at.Key().Netip()], "%v", at.Key().Netip())
		all++
	}
	require.Equal(t, len(dsts), all, "All yields one twice")
	for _, dst := range machineDsts {
		at, key, _ := m.find(dst)
		if dst != key.Netip() || dsts[dst] != at.Held() || m.counts(dst) != at.Counts() {
			require.Fail(t, "counts", "%v: %t and %+v, want %+v", dst, at.Held(), at.Counts(), m.counts(dst))
		}
		if dsts[dst] {
			require.Equal(t, key, at.Key())
			m.checkTuples(t, dst, at)
		}
		if m.from(dst).Len() > 0 {
			require.Equal(t, !m.exists(&request{dst: dst}), at.IsFull(&m.rules))
		}
		m.checkState(t, dst, at)
	}
}

// checkTuples checks what is listed towards a destination.
func (m *machine) checkTuples(t *rapid.T, dst netip.AddrPort, at held.Place) {
	want, got := map[name]held.State{}, map[name]held.State{}
	bySource, sources := map[uint64]int{}, map[uint64]int{}
	for n, state := range m.held {
		if n.dst == dst {
			want[n] = state
			bySource[m.hold(t, n).Number()]++
		}
	}
	for h, state := range at.Tuples {
		n := m.name(dst, h)
		if got[n] != 0 || state != at.State(h) {
			require.Fail(t, "listed twice, or otherwise than it stands", "%v", n)
		}
		got[n] = state
	}
	if !maps.Equal(want, got) {
		require.Equal(t, want, got)
	}
	for number, tuples := range at.Sources {
		sources[number] += tuples
	}
	if !maps.Equal(bySource, sources) {
		require.Equal(t, bySource, sources)
	}
	for range at.Tuples {
		break // an early end
	}
	for range at.Sources {
		break
	}
}

// checkState looks for tuples that may stand in any way, under the lock and without it.
func (m *machine) checkState(t *rapid.T, dst netip.AddrPort, at held.Place) {
	key := keyOf(dst)
	from := m.from(dst)
	for _, a := range machineAddrs {
		if m.any {
			a = m.towards(dst)[0].prefix.Addr()
		}
		if a.Is6() != key.Is6() {
			continue
		}
		for _, port := range []uint16{5000, 5001, 5003, 5005, 9000, 64} {
			h, ok := from.Find(held.AddrFrom(a), port)
			n := name{dst, a, port}
			if !ok {
				if m.held[n] != 0 {
					require.Fail(t, "held, and not found", "%v", n)
				}
				continue
			}
			want, got := max(held.Free, m.held[n]), at.State(h)
			is, known := m.table.Begin(key).Contains(key, key.Hash(m.rules.Hash), h)
			switch {
			case want != got:
				require.Equal(t, want, got, "%v", n)
			case known && is != (want != held.Free):
				require.Fail(t, "Look contradicts State", "%v: %v", n, is)
			case !known && !at.Held():
				require.Fail(t, "nothing is held, and Look does not know it", "%v", n)
			}
		}
	}
}
