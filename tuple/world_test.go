package tuple_test

import (
	"context"
	"maps"
	"net/netip"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

// world is what a Pool should be: the ports of each live source, and every tuple that is held, by the space that it
// is in.
type world struct {
	live map[netip.Prefix]alloc.Set
	own  map[netip.Prefix]bool    // whose ports are not those of the pool
	held map[tuple.Tuple]*holding // with the scope for a destination
}

type holding struct {
	tuple tuple.Tuple // as it was handed out
	until int64       // 0: in use; else when it comes free; never if it is taken without a time
	turn  int         // of the retired ones, the lower the longer it has rested
	owner string      // of the request that it was for; nobody's if it is taken

	kernel, taken bool // it is retired for the kernel, or others have it
}

// mayEnd reports whether h is retired for the kernel or taken, so that this may end early.
func (h *holding) mayEnd() bool { return h != nil && (h.kernel || h.taken) }

// inLine is somebody who waits.
type inLine struct {
	request tuple.Request
	done    chan result
	cancel  context.CancelFunc
}

type machine struct {
	pool  *tuple.Pool
	ports alloc.Set
	scope func(netip.AddrPort) netip.AddrPort
	world
	turns  int
	line   []*inLine             // who waits, in order of arrival
	sticky map[string]netip.Addr // by owner or destination: the first choice of the present sources, once it is known
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

// free counts the tuples that would do for a request, by source; a source of a wide prefix counts once for all unused
// ones.
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

// stops returns the quota that keeps a request from being served, whatever is free, and what counts in it. What
// others hold is nobody's quota.
func (m *machine) stops(r tuple.Request) (which tuple.Quota, n tally) {
	var all, ofOwner, ofDst tally
	for k, h := range m.held {
		s := &share{until: h.until, taken: h.taken}
		all.count(s)
		if h.owner != "" && h.owner == r.Owner {
			ofOwner.count(s)
		}
		if k.Dst() == m.scope(r.Dst) {
			ofDst.count(s)
		}
	}
	switch p := m.pool; {
	case p.MaxPerOwner > 0 && ofOwner.all() >= p.MaxPerOwner:
		return tuple.QuotaPerOwner, ofOwner
	case p.MaxTuples > 0 && all.all() >= p.MaxTuples:
		return tuple.QuotaTuples, all
	case p.MaxPerDestination > 0 && ofDst.inUse >= p.MaxPerDestination:
		return tuple.QuotaPerDestination, tally{inUse: ofDst.inUse}
	}
	return 0, tally{}
}

// isServed reports whether a request can be: from what is free or, if the pool reuses it, what rests.
func (m *machine) isServed(r tuple.Request) bool {
	stops, _ := m.stops(r)
	_, rests := m.rested(r)
	return stops == 0 && (len(m.free(r)) > 0 || rests)
}

// hold enters what a request was given, and checks that it is what was asked for and nobody else's.
func (m *machine) hold(t *rapid.T, r tuple.Request, got tuple.Tuple) {
	src := got.Src()
	require.True(t, got.IsValid() && got.Dst() == r.Dst, got)
	require.True(t, !r.Src.IsValid() || r.Src == src.Addr(), got)
	require.True(t, r.Ports.IsZero() || r.Ports.Contains(src.Port()), got)
	require.True(t, m.portsOf(src.Addr()).Contains(src.Port()), "%v is none of the pool's", got)
	if h := m.held[m.key(got)]; h != nil {
		require.True(t, m.pool.ReuseRetired && h.until != 0 && !h.taken, "%v is held twice", got)
	}
	m.held[m.key(got)] = &holding{tuple: got, owner: r.Owner}
}

// rested returns what has rested longest of that which would do for a request.
func (m *machine) rested(r tuple.Request) (longest tuple.Tuple, ok bool) {
	for k, h := range m.held {
		src := k.Src()
		switch {
		case !m.pool.ReuseRetired, h.until == 0, h.taken, k.Dst() != m.scope(r.Dst), !m.portsOf(src.Addr()).Contains(src.Port()):
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
	inUse, retired, taken := m.towards(r.Dst)
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
	case tuple.StickyDestination:
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
	case inUse+retired+taken == 0: // so the first choice had room
		m.sticky[name] = got
	}
}

func (m *machine) towards(dst netip.AddrPort) (inUse, retired, taken int) {
	for k, h := range m.held {
		switch {
		case k.Dst() != m.scope(dst):
		case h.taken:
			taken++
		case h.until == 0:
			inUse++
		default:
			retired++
		}
	}
	return inUse, retired, taken
}
