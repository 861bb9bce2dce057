package tuple_test

import (
	"context"
	"maps"
	"math"
	"net/netip"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ephemera-go/ephemera/alloc"
	"github.com/ephemera-go/ephemera/tuple"
)

// world is the model of a Pool: the ports of each live source, and each tuple that is held, under the destination that
// Scope returned.
type world struct {
	live map[netip.Prefix]alloc.Set
	own  map[netip.Prefix]bool    // sources with ports of their own
	held map[tuple.Tuple]*holding // by the tuple towards its Scope
}

type holding struct {
	tuple tuple.Tuple // as it was handed out
	until int64       // 0: in use; else when it comes free; never if it is taken without a time
	turn  int         // of the retired ones, the lower the earlier it was retired
	owner string      // Request.Owner; "" if it is taken

	kernel, taken bool // it is retired for the kernel, or others have it
}

// mayEnd reports whether h is retired for the kernel or taken, which the kernel may end early.
func (h *holding) mayEnd() bool { return h != nil && (h.kernel || h.taken) }

// inLine is a waiter.
type inLine struct {
	request tuple.Request
	done    chan result
	cancel  context.CancelFunc
}

// never is when what is taken without a time comes free.
const never = math.MaxInt64

func now() int64 { return time.Now().UnixNano() }

// tally is how many tuples count in a quota.
type tally struct{ inUse, retired int }

func (n *tally) count(h *holding) {
	switch {
	case h.taken: // what others hold is nobody's
	case h.until == 0:
		n.inUse++
	default:
		n.retired++
	}
}

func (n *tally) all() int { return n.inUse + n.retired }

type machine struct {
	pool  *tuple.Pool
	any   bool // it has no Sources
	ports alloc.Set
	scope func(netip.AddrPort) netip.AddrPort
	world
	turns  int
	peak   map[netip.AddrPort]int // by space: the most in use or retired at once since none was
	waited bool                   // somebody has: then the instant of each change is not known
	line   []*inLine              // the waiters, in order of arrival
	sticky map[string]netip.Addr  // by owner or destination: the first choice among the present sources, once known
}

// portsOf returns the ports that the pool hands out from a source.
func (m *machine) portsOf(src netip.Addr) alloc.Set {
	for prefix, ports := range m.live {
		if prefix.Contains(src) {
			return ports
		}
	}
	return alloc.Set{}
}

// key returns the tuple of the space that t lies in. Without Sources its source address does not matter.
func (m *machine) key(t tuple.Tuple) tuple.Tuple {
	src := t.Src()
	if m.any && src.Addr().Is4() {
		src = netip.AddrPortFrom(netip.IPv4Unspecified(), src.Port())
	} else if m.any {
		src = netip.AddrPortFrom(netip.IPv6Unspecified(), src.Port())
	}
	return tuple.From(src, m.scope(t.Dst()))
}

// isHandedOut reports whether the pool can hand out t.
func (m *machine) isHandedOut(t tuple.Tuple) bool {
	return t.IsValid() && m.portsOf(m.key(t).Src().Addr()).Contains(t.Src().Port())
}

// enter enters a tuple that is no longer free, or is used again.
func (m *machine) enter(t tuple.Tuple, h *holding) {
	m.held[m.key(t)] = h
	m.settlePeak(t.Dst())
}

// drop makes a tuple free.
func (m *machine) drop(key tuple.Tuple) {
	dst := m.held[key].tuple.Dst()
	delete(m.held, key)
	m.settlePeak(dst)
}

func (m *machine) settlePeak(dst netip.AddrPort) {
	inUse, retired, _ := m.towards(dst)
	if inUse+retired == 0 {
		delete(m.peak, m.scope(dst))
	} else {
		m.peak[m.scope(dst)] = max(m.peak[m.scope(dst)], inUse+retired)
	}
}

func (m *machine) expire() {
	for k, h := range m.held {
		if h.until != 0 && h.until <= now() {
			m.drop(k)
		}
	}
}

// free counts the free tuples that fit a Request, by source. All unused sources of a wide prefix count as one.
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
	for k := range m.held {
		if _, ok := free[k.Src().Addr()]; ok && k.Dst() == m.scope(r.Dst) &&
			!(machineSources[6].Contains(k.Src().Addr()) && !r.Src.IsValid()) {
			if src := k.Src(); m.portsOf(src.Addr()).Contains(src.Port()) &&
				(r.Ports.IsZero() || r.Ports.Contains(src.Port())) {
				free[src.Addr()]--
			}
		}
	}
	maps.DeleteFunc(free, func(_ netip.Addr, n int) bool { return n == 0 })
	return free
}

// stops returns the quota that stops a Request, and what counts in it. Taken tuples count in none.
func (m *machine) stops(r tuple.Request) (which tuple.Quota, n tally) {
	var all, ofOwner, ofDst tally
	for k, h := range m.held {
		all.count(h)
		if h.owner != "" && h.owner == r.Owner {
			ofOwner.count(h)
		}
		if k.Dst() == m.scope(r.Dst) {
			ofDst.count(h)
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

// isServed reports whether a Request can be served: by a free tuple or, if the pool reuses them, a retired one.
func (m *machine) isServed(r tuple.Request) bool {
	stops, _ := m.stops(r)
	_, rests := m.rested(r)
	return stops == 0 && (len(m.free(r)) > 0 || rests)
}

// hold records what a Request was given. It checks that this fits, and that nobody else holds it.
func (m *machine) hold(t *rapid.T, r tuple.Request, got tuple.Tuple) {
	src := got.Src()
	require.True(t, got.IsValid() && got.Dst() == r.Dst, got)
	require.True(t, !r.Src.IsValid() || r.Src == src.Addr(), got)
	require.True(t, r.Ports.IsZero() || r.Ports.Contains(src.Port()), got)
	require.True(t, m.portsOf(src.Addr()).Contains(src.Port()), "%v is none of the pool's", got)
	if h := m.held[m.key(got)]; h != nil {
		require.True(t, m.pool.ReuseRetired && h.until != 0 && !h.taken, "%v is held twice", got)
	}
	m.enter(got, &holding{tuple: got, owner: r.Owner})
}

// rested returns the tuple that was retired first among those that fit a Request.
func (m *machine) rested(r tuple.Request) (longest tuple.Tuple, ok bool) {
	for k, h := range m.held {
		src := k.Src()
		switch {
		case !m.pool.ReuseRetired, h.until == 0, h.taken, k.Dst() != m.scope(r.Dst),
			!m.portsOf(src.Addr()).Contains(src.Port()):
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
		name += r.Dst.Addr().Unmap().String()[:1] // each family has its own sources
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
	case inUse+retired+taken == 0: // so the first choice had a free port
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

// next returns how long it takes until the first of the retired or taken comes free, 0 if none does.
func (m *machine) next(dst netip.AddrPort) time.Duration {
	next := int64(never)
	for k, h := range m.held {
		if k.Dst() == m.scope(dst) && h.until != 0 {
			next = min(next, h.until)
		}
	}
	if next == never {
		return 0
	}
	return time.Duration(next - now())
}

// usage returns how a destination stands, less At and Waiting. Of sources in a wide prefix, Free is not known.
func (m *machine) usage(dst netip.AddrPort) (u tuple.Usage, isFreeKnown bool) {
	u.Dst, u.HighWater, isFreeKnown = m.scope(dst), m.peak[m.scope(dst)], true
	u.InUse, u.Retired, u.Taken = m.towards(dst)
	for prefix, ports := range m.live {
		if prefix.Addr().Is4() == dst.Addr().Is4() {
			u.Free += ports.Len() << min(20, prefix.Addr().BitLen()-prefix.Bits())
			isFreeKnown = isFreeKnown && prefix.Bits() != 64
		}
	}
	var all tally
	for k, h := range m.held {
		all.count(h)
		if k.Dst() == u.Dst && m.portsOf(k.Src().Addr()).Contains(k.Src().Port()) {
			u.Free--
		}
	}
	if p := m.pool; p.MaxPerDestination > 0 {
		u.Free = min(u.Free, max(0, p.MaxPerDestination-u.InUse))
	}
	if p := m.pool; p.MaxTuples > 0 {
		u.Free = min(u.Free, max(0, p.MaxTuples-all.all()))
	}
	return u, isFreeKnown
}
